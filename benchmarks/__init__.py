"""How fast the service is, beside the bare model and what else one could run. `make bench`."""

import os

from tests.support.ray_environment import RAY_ENV

os.environ.update(RAY_ENV)  # before Ray is loaded; as `make` and the image start the service
