"""The library's log lines go where Serve's go: console, replica log files, dashboard."""

from __future__ import annotations

import logging

_SERVE_LOGGER = "ray.serve"


def use_serve_log(level: str) -> None:
    """Send the library's log records of this level and above through this replica's log."""
    for name in ("prelabel", "deployments"):
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.handlers = logging.getLogger(_SERVE_LOGGER).handlers
        logger.propagate = False
    logging.getLogger("urllib3").setLevel("ERROR")  # it writes whole URLs, signatures included
