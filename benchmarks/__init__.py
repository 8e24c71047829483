"""Benchmarks of the service against the bare model and alternative servers. Run by `make bench`."""

import os

from tests.support.ray_environment import RAY_ENV

# Ray reads its variables when it is imported. These are the ones that `make` and the image set.
os.environ.update(RAY_ENV)
