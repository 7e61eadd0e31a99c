"""Compares this service with the unmodified libraries. Run: `python -m benchmarks --help`."""
