"""Speed and memory, measured: one command each, results in `benchmarks/results/`."""
