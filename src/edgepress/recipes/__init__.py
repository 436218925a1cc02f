"""Recipes: order, keys, cache, resume and measuring. The only room that writes artifacts to the disk."""
