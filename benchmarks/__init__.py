"""Measurements of speed and memory, one command each; their results are in `benchmarks/results/`."""
