"""Benchmarks of the service against the bare model and alternative servers. Run by `make bench`."""
