"""What Prometheus can read from Ray's metrics ports, beside Ray's own; see docs/operations.md."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ray.serve.metrics import Counter, Gauge, Histogram

from prelabel.concurrency.single_flight import SingleFlightCache
from prelabel.observability.journal import Report

_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120]
_ERROR_PREFIX = "errors."


class MetricBuffer:
    """Tells Ray a moment later, and all together: there are some twenty figures in the work on one
    picture, each takes as long as a step of that work when it is told alone, and somebody is
    waiting for it. (Ray itself sends them on once a second.)

    Belongs to one event loop.
    """

    def __init__(self, pause_s: float = 0.5) -> None:
        self._pause_s = pause_s
        self._untold: list[tuple[Callable[..., object], tuple[object, ...]]] = []

    def __call__(self, tell: Callable[..., object], *figure: object) -> None:
        """Call it so, soon and in order."""
        if not self._untold:
            asyncio.get_running_loop().call_later(self._pause_s, self._tell_all)
        self._untold.append((tell, figure))

    def _tell_all(self) -> None:
        """Each is a call of the loop's own, which logs what fails: it costs no other."""
        untold, self._untold = self._untold, []
        loop = asyncio.get_running_loop()
        for tell, figure in untold:
            loop.call_soon(tell, *figure)


class StageMetrics:
    """How long the stages of the work on one picture take."""

    def __init__(self) -> None:
        self._later = MetricBuffer()
        self._stages = Histogram(
            "prelabel_stage_seconds",
            description="Fetch, decode, prepare, queue (for the device), forward, postprocess.",
            boundaries=_SECONDS,
            tag_keys=("stage",),
        )

    def observe(self, stage: str, seconds: float) -> None:
        """An `Observe`."""
        self._later(self._stages.observe, seconds, {"stage": stage})


class DetectorMetrics(StageMetrics):
    """Of one detector."""

    def __init__(self) -> None:
        super().__init__()
        self._sizes = Histogram(
            "prelabel_batch_size",
            description="Pictures in one pass through the model.",
            boundaries=[1, 2, 4, 8, 16, 32, 64, 128],
        )
        self._waiting = Gauge(
            "prelabel_queue_depth", description="Pictures that wait for the device."
        )
        self._asked = Counter(
            "prelabel_cache_lookups",
            description="Whether what was asked was known, or just being found out.",
            tag_keys=("cache", "outcome"),  # type: ignore[arg-type]  # Ray's annotation allows one
        )
        self._counted: dict[tuple[str, str], int] = {}

    def batch(self, size: int) -> None:
        """A pass through the model begins."""
        self._later(self._sizes.observe, size)

    def waiting(self, pictures: int) -> None:
        """So many wait now."""
        self._later(self._waiting.set, pictures)

    def cache(self, name: str, cache: SingleFlightCache[Any]) -> None:
        """Count what was asked of it since the last time."""
        for outcome, total in (("hit", cache.hits), ("miss", cache.misses)):
            new = total - self._counted.get((name, outcome), 0)
            if new:
                self._later(self._asked.inc, new, {"cache": name, "outcome": outcome})
                self._counted[name, outcome] = total


class IngressMetrics(StageMetrics):
    """Of one ingress replica."""

    def __init__(self) -> None:
        super().__init__()
        self._counters = {
            name: Counter(f"prelabel_{name}", description=description)
            for name, description in (
                ("requests", "Predict requests that were answered."),
                ("requests_failed", "Requests that failed as a whole."),
                ("tasks", "Tasks that were answered."),
                ("tasks_failed", "Tasks that were answered by an error."),
                ("regions", "Boxes and labels that were answered."),
                ("webhooks", "Webhooks."),
            )
        }
        self._errors = Counter(
            "prelabel_errors", description="Errors by kind.", tag_keys=("error_type",)
        )
        self._requests = Histogram(
            "prelabel_request_seconds",
            description="Of predict requests: interactive has one task, bulk more.",
            boundaries=_SECONDS,
            tag_keys=("kind",),
        )
        self._in_progress = Gauge(
            "prelabel_tasks_in_progress", description="Tasks that are being worked on."
        )

    def count(self, report: Report) -> None:
        """An answered request."""
        self._later(self._count, report)

    def _count(self, report: Report) -> None:
        for name, number in report.counts.items():
            if name.startswith(_ERROR_PREFIX):
                self._errors.inc(number, {"error_type": name.removeprefix(_ERROR_PREFIX)})
            elif number:
                self._counters[name].inc(number)
        if report.seconds is not None:
            kind = "interactive" if report.interactive else "bulk"
            self._requests.observe(report.seconds, {"kind": kind})

    def in_progress(self, tasks: int) -> None:
        """So many now."""
        self._later(self._in_progress.set, tasks)
