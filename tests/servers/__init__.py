"""Servers of others, started for tests and benchmarks."""
