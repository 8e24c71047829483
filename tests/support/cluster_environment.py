"""What stands in the environment before Ray is loaded: this module loads nothing of it."""

import os
import secrets

from tests.support.ray_environment import RAY_ENV


def prepare() -> None:
    """This process may talk to the clusters that it starts, and nobody else may. Their own
    processes have it all already.
    """
    os.environ.update(RAY_ENV)
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
