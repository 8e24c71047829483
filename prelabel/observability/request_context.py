"""The id and the trace of the request that the running code works for.

Both live in context variables, so that log lines, journal entries and spans name their request
without a parameter in every signature. Context variables end at a process's border: a call to
another deployment carries a `RequestContext` and restores it there (see `spans.Tracer`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

NO_REQUEST: Final = "-"

_request_id: ContextVar[str] = ContextVar("prelabel_request_id", default=NO_REQUEST)


@dataclass(frozen=True)
class RequestContext:
    """Request id and W3C traceparent, in a form that a call to another process can carry.

    Without slots, because Python pickles classes with slots field by field.
    """

    request_id: str = NO_REQUEST
    traceparent: str = ""


def current_request_id() -> str:
    """Return the id of the request that is being worked on, `-` outside of one."""
    return _request_id.get()


@contextmanager
def request_id_scope(request_id: str) -> Iterator[None]:
    """Set the request id for the block and for all tasks that start in it."""
    token = _request_id.set(request_id)
    try:
        yield
    finally:
        _request_id.reset(token)


class RequestIdFilter(logging.Filter):
    """Adds the request id to log records that have none of their own. Drops no record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Set `record.request_id` within a request."""
        request_id = _request_id.get()
        if request_id != NO_REQUEST and not hasattr(record, "request_id"):
            record.request_id = request_id
        return True
