"""Structured and unstructured pruning: score the sites, allocate a budget in the user's units, cut."""
