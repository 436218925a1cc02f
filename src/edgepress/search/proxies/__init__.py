"""Scores of an untrained network, one per file: seconds instead of a training, and a guess instead of a measurement."""
