"""Networks: how they are named and built, edited and saved without pickle, counted and run. Needs torch."""
