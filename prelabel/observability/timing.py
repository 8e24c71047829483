"""Durations of the stages that a picture passes through, for metrics and traces."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Observe = Callable[[str, float], None]
"""Takes the name of a stage and its duration in seconds."""


def ignore_stage(_stage: str, _seconds: float) -> None:
    """Ignore the duration: the observer that is used without metrics."""


@contextmanager
def timed(observe: Observe, stage: str) -> Iterator[None]:
    """Report the duration of the block, also when it raises."""
    started = time.monotonic()
    try:
        yield
    finally:
        observe(stage, time.monotonic() - started)
