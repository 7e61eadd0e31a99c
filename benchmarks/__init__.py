"""Measures this service against the libraries as they come. Run: `python -m benchmarks --help`."""
