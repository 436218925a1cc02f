"""Random streams that are functions of what they are for."""

import torch


def generator(*seeds: int) -> torch.Generator:
    """Return a CPU generator for a tuple of small integers; equal tuples give equal streams."""
    mixed = 0
    for part in seeds:
        mixed = (mixed * 6364136223846793005 + part + 1442695040888963407) % 2**63
    return torch.Generator().manual_seed(mixed)
