"""Measuring: what an artifact scores, weighs and costs, as rows; and the tables and the page made of them.

Nothing here imports torch at import: a device measures exported files without it.
"""
