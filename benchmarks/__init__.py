"""How fast the service is, beside the bare model and what else one could run. `make bench`."""
