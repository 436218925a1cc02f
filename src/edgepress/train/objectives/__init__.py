"""Losses: one small dataclass per file, with its paper in the docstring."""
