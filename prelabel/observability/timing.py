"""How long the stages of the work on a picture take, told to whoever keeps statistics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Observe = Callable[[str, float], None]  # a stage's name and seconds


def nobody(_stage: str, _seconds: float) -> None:
    """Keeps none."""


@contextmanager
def timed(observe: Observe, stage: str) -> Iterator[None]:
    """Tell how long the block took, also where it failed."""
    began = time.monotonic()
    try:
        yield
    finally:
        observe(stage, time.monotonic() - began)
