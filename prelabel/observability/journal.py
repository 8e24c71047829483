"""What happened lately, over all ingress replicas: counts, times, and the newest errors."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

_ERRORS_KEPT = 500
_TIMES_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Fault:
    """An error that was answered, or that cost a request its remembered prompt. project: its key;
    task: its id, None where the error concerns the whole request or its task has no id.
    """

    at: datetime
    request_id: str
    project: str | None
    task: int | None
    error_type: str
    error: str


@dataclass(frozen=True, slots=True)
class Report:
    """One answered request. counts: what is added up; faults: at least the first of its errors.

    seconds: what a predict took; interactive: whether it was one of a single task.
    """

    counts: Mapping[str, int]
    faults: tuple[Fault, ...] = ()
    seconds: float | None = None
    interactive: bool = False


@dataclass(slots=True)
class Journal:
    """Reports of this long and no longer: it lives in memory, and starts anew with the service."""

    _started: float = field(default_factory=time.monotonic)
    _counts: Counter[str] = field(default_factory=Counter)
    _faults: deque[Fault] = field(default_factory=lambda: deque(maxlen=_ERRORS_KEPT))
    _seconds: dict[str, deque[float]] = field(
        default_factory=lambda: {
            kind: deque(maxlen=_TIMES_KEPT) for kind in ("interactive", "bulk")
        }
    )

    def note(self, report: Report) -> None:
        """Add a report."""
        self._counts.update(report.counts)
        self._faults.extend(report.faults)
        if report.seconds is not None:
            self._seconds["interactive" if report.interactive else "bulk"].append(report.seconds)

    def errors(self, project: str | None, limit: int) -> list[Fault]:
        """The newest errors first; project: of this key, or of all projects with this id."""
        found = (fault for fault in reversed(self._faults) if _concerns(fault, project))
        return [fault for fault, _ in zip(found, range(limit), strict=False)]

    def metrics(self) -> dict[str, float]:
        """Counts since the start, and the times that the last thousand predicts of each kind took:
        median, 95th percentile and longest, in seconds.
        """
        times = {
            f"{kind}_seconds_{name}": round(float(np.percentile(taken, percentile)), 3)
            for kind, taken in self._seconds.items()
            if taken
            for name, percentile in (("p50", 50), ("p95", 95), ("max", 100))
        }
        return {**self._counts, **times, "uptime_s": round(time.monotonic() - self._started, 1)}


def _concerns(fault: Fault, project: str | None) -> bool:
    if project is None:
        return True
    key = fault.project or ""
    return project in (key, key.partition(".")[0])
