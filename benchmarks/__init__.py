"""Benchmarks: every number of the documentation is a row that one command in here remakes."""
