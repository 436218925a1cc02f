"""Looking for a student: which network of a family, how wide and how deep, is the best within a budget."""
