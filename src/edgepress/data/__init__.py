"""Data sets: one file per source, each giving the same three splits, labels, input spec and fingerprint."""
