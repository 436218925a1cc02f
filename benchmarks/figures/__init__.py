"""One file per figure: `measure(options) -> rows`. `python -m benchmarks.foundation --only NAME` runs one alone."""
