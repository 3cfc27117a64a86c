"""Benchmarks: run with `make bench`; the results are written to docs/benchmarks.md."""
