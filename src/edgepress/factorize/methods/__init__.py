"""How a dense layer comes apart: one file per decomposition."""
