"""Sends the library's log records to Serve's handlers: console, replica log files, dashboard."""

from __future__ import annotations

import logging

from prelabel.observability.request_context import RequestIdFilter

_SERVE_LOGGER = "ray.serve"


def use_serve_log(level: str) -> None:
    """Send the library's log records of this level and above through the replica's log.

    Serve's formatters write the request id of a record, and Serve sets it in a request's own
    task. The filter sets it in tasks that Serve does not know.
    """
    handlers = logging.getLogger(_SERVE_LOGGER).handlers
    for handler in handlers:
        if not any(isinstance(each, RequestIdFilter) for each in handler.filters):
            handler.addFilter(RequestIdFilter())
    for name in ("prelabel", "deployments"):
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.handlers = handlers
        logger.propagate = False
    # urllib3 logs whole URLs, which may hold signatures.
    logging.getLogger("urllib3").setLevel("ERROR")
