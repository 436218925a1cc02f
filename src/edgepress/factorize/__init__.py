"""Low-rank factors in place of dense layers: score the ranks, allocate a budget, decompose."""
