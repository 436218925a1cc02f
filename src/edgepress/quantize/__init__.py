"""Fewer bits for weights and activations: score the layers, allocate the bits, replace the numbers."""
