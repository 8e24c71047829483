"""The journal: counts, durations and the newest errors of all ingress replicas.

Each ingress replica writes `Report`s through a `JournalWriter`; one `Journal` adds them up. It
lives in memory and starts empty with the service.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import numpy as np

from prelabel.concurrency.background import BackgroundTasks
from prelabel.errors import JournalError

logger = logging.getLogger(__name__)

_MAX_FAULTS = 500  # a megabyte at most: sentences have at most 700 characters
_MAX_DURATIONS = 1000  # of each kind; enough for a 95th percentile
_FLUSH_AFTER_S = 0.5  # one call for many reports: a call costs far more than a report
_RETRY_AFTER_S = 2.0
_MAX_PENDING = 2_000  # reports that wait for a journal that does not answer


@dataclass(frozen=True, slots=True)
class Fault:
    """An error that a task or request was answered with, or a fault that failed neither.

    Attributes:
        at: Time of the fault.
        request_id: Id of the request.
        project: Key of the project, None if the request names none.
        task: Id of the task, None for an error of the whole request.
        error_type: Class of the error.
        error: Sentence of the error.
    """

    at: datetime
    request_id: str
    project: str | None
    task: int | None
    error_type: str
    error: str


@dataclass(frozen=True, slots=True)
class Report:
    """Counts and faults of one request.

    Attributes:
        counts: Numbers to add to the totals, by name.
        faults: The first faults of the request, at least one if there were any.
        seconds: Duration of a predict request, None for other requests.
        interactive: True for a predict request of a single task.
    """

    counts: Mapping[str, int]
    faults: tuple[Fault, ...] = ()
    seconds: float | None = None
    interactive: bool = False


@dataclass(slots=True)
class Journal:
    """Adds up reports. Not thread-safe."""

    _started: float = field(default_factory=time.monotonic)
    _counts: Counter[str] = field(default_factory=Counter)
    _faults: deque[Fault] = field(default_factory=lambda: deque(maxlen=_MAX_FAULTS))
    _seconds: dict[str, deque[float]] = field(
        default_factory=lambda: {
            kind: deque(maxlen=_MAX_DURATIONS) for kind in ("interactive", "bulk")
        }
    )

    def add(self, report: Report) -> None:
        """Add one report."""
        self._counts.update(report.counts)
        self._faults.extend(report.faults)
        if report.seconds is not None:
            self._seconds["interactive" if report.interactive else "bulk"].append(report.seconds)

    def errors(self, project: str | None, limit: int) -> list[Fault]:
        """Return errors, newest first.

        Args:
            project: A project's key, or its id for all keys with that id; None for all projects.
            limit: Most errors to return.
        """
        matching = (fault for fault in reversed(self._faults) if _concerns(fault, project))
        return [fault for fault, _ in zip(matching, range(limit), strict=False)]

    def metrics(self) -> dict[str, float]:
        """Return the totals since the start, and the durations of predict requests in seconds.

        Durations are median, 95th percentile and maximum of the last thousand requests of each
        kind, interactive and bulk.
        """
        durations = {
            f"{kind}_seconds_{name}": round(float(np.percentile(seconds, percentile)), 3)
            for kind, seconds in self._seconds.items()
            if seconds
            for name, percentile in (("p50", 50), ("p95", 95), ("max", 100))
        }
        return {**self._counts, **durations, "uptime_s": round(time.monotonic() - self._started, 1)}


class JournalPort(Protocol):
    """Access to the journal, which may run in another process.

    Every method raises JournalError if the journal cannot be reached.
    """

    async def add(self, reports: Sequence[Report]) -> None:
        """Add reports."""

    async def errors(self, project: str | None, limit: int) -> list[Fault]:
        """Return errors, newest first."""

    async def metrics(self) -> dict[str, float]:
        """Return totals and durations."""


class JournalWriter:
    """Buffers the reports of one replica and flushes them in one call.

    Reports of a failed call stay buffered and are sent again. Belongs to one event loop.
    """

    def __init__(self, journal: JournalPort, retry_after_s: float = _RETRY_AFTER_S) -> None:
        self._journal = journal
        self._retry_after_s = retry_after_s
        self._pending: list[Report] = []
        self._one_at_a_time = asyncio.Lock()
        self._background = BackgroundTasks()
        self._timer: asyncio.Task[None] | None = None
        self._is_failing = False

    def add(self, report: Report) -> None:
        """Buffer a report; it is sent within half a second. Does not block."""
        self._buffer([report])
        if self._timer is None or self._timer.done():
            self._timer = asyncio.create_task(self._flush_later())

    async def flush(self) -> None:
        """Send the buffered reports. Raises JournalError if the journal cannot be reached."""
        # In a task of its own, which the cancellation of a caller does not interrupt: otherwise it
        # would be unknown whether the journal has added the reports.
        await asyncio.shield(self._background.start(self._send()))

    async def _send(self) -> None:
        async with self._one_at_a_time:
            reports, self._pending = self._pending, []
            if not reports:
                return
            try:
                await self._journal.add(reports)
            except JournalError:
                newer, self._pending = self._pending, reports
                self._buffer(newer)
                raise

    def _buffer(self, reports: Sequence[Report]) -> None:
        self._pending.extend(reports)
        if len(self._pending) > _MAX_PENDING:
            half = len(self._pending) // 2
            self._pending[:half] = [_merge(self._pending[:half])]

    async def _flush_later(self) -> None:
        pause_s = _FLUSH_AFTER_S
        while self._pending:
            await asyncio.sleep(pause_s)
            try:
                await self.flush()
            except JournalError as error:
                if not self._is_failing:
                    logger.warning("Reports wait for the journal. %s", error)
                self._is_failing, pause_s = True, self._retry_after_s
            else:
                self._is_failing = False


def _merge(reports: Sequence[Report]) -> Report:
    """Return one report with all counts and the newest faults; the durations are dropped."""
    counts: Counter[str] = Counter()
    for report in reports:
        counts.update(report.counts)
    faults = tuple(fault for report in reports for fault in report.faults)
    return Report(counts, faults[-_MAX_FAULTS:])


def _concerns(fault: Fault, project: str | None) -> bool:
    if project is None:
        return True
    key = fault.project or ""
    return project in (key, key.partition(".")[0])
