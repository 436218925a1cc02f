"""Scores: which unit of a site matters least. One small dataclass per file, with its paper in the docstring."""
