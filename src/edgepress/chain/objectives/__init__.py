"""Losses that need more than one room: they belong to the same registry as those of `train.objectives`."""
