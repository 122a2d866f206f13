"""Benchmarks of what we claim."""
