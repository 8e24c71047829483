"""Ray's environment, set before Ray is imported: this module imports nothing of it."""

import os
import secrets

from tests.support.ray_environment import RAY_ENV


def prepare() -> None:
    """Set a token, so that this process alone may talk to the clusters that it starts.

    The clusters' processes inherit it.
    """
    os.environ.update(RAY_ENV)
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
