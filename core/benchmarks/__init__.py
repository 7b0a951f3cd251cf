"""Benchmarks of training against conventional baselines."""
