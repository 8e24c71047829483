"""Metrics of the replicas for Prometheus, read from Ray's metrics ports beside Ray's own.

docs/operator/operations.md lists them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ray.serve.metrics import Counter, Gauge, Histogram

from prelabel.concurrency.single_flight import SingleFlightCache
from prelabel.observability.journal import Report

_BUCKETS_S = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120]
# Ray sums a histogram from the middles of its buckets. With these bounds the middles are the sizes
# themselves up to 16, so that the mean of the sizes is right.
_BATCH_BOUNDS = [*(size + 0.5 for size in range(17)), 32.5, 64.5, 128.5, 256.5]
_ERROR_PREFIX = "errors."
_FLUSH_AFTER_S = 0.5  # Ray itself exports metrics once a second


class MetricBuffer:
    """Buffers metric updates and flushes them in one callback of the event loop.

    A picture causes some twenty updates. A single update takes 98 us, because caches are cold, and
    an update among others 3 us. So no update is made while a request waits. Belongs to one event
    loop.
    """

    def __init__(self, flush_after_s: float = _FLUSH_AFTER_S) -> None:
        self._flush_after_s = flush_after_s
        self._updates: list[tuple[Callable[..., object], tuple[object, ...]]] = []

    def __call__(self, update: Callable[..., object], *args: object) -> None:
        """Call `update(*args)` soon, in the order of the calls."""
        if not self._updates:
            asyncio.get_running_loop().call_later(self._flush_after_s, self._flush)
        self._updates.append((update, args))

    def _flush(self) -> None:
        updates, self._updates = self._updates, []
        loop = asyncio.get_running_loop()
        for update, args in updates:
            # As callbacks of their own: the loop logs the exception of one and runs the next.
            loop.call_soon(update, *args)


class StageMetrics:
    """Durations of the stages that a picture passes through."""

    def __init__(self) -> None:
        self._buffer = MetricBuffer()
        self._stages = Histogram(
            "prelabel_stage_seconds",
            description="Seconds of fetch, decode, prepare, queue (for the device), forward and "
            "postprocess.",
            boundaries=_BUCKETS_S,
            tag_keys=("stage",),
        )

    def observe(self, stage: str, seconds: float) -> None:
        """Record the duration of a stage."""
        self._buffer(self._stages.observe, seconds, {"stage": stage})


class DetectorMetrics(StageMetrics):
    """Metrics of one detector replica."""

    def __init__(self) -> None:
        super().__init__()
        self._batch_sizes = Histogram(
            "prelabel_batch_size",
            description="Pictures in one forward pass of the model.",
            boundaries=_BATCH_BOUNDS,
        )
        self._waiting = Gauge(
            "prelabel_queue_depth", description="Pictures that wait for the device."
        )
        self._lookups = Counter(
            "prelabel_cache_lookups",
            description="Lookups in the caches of results, decoded pictures and encodings. A "
            "lookup of work in progress is a hit.",
            tag_keys=("cache", "outcome"),  # type: ignore[arg-type]  # Ray's annotation allows one
        )
        self._counted: dict[tuple[str, str], int] = {}

    def batch(self, size: int) -> None:
        """Record the size of a batch."""
        self._buffer(self._batch_sizes.observe, size)

    def waiting(self, pictures: int) -> None:
        """Record the number of pictures that wait for the device."""
        self._buffer(self._waiting.set, pictures)

    def cache(self, name: str, cache: SingleFlightCache[Any]) -> None:
        """Count the lookups in a cache since the last call."""
        for outcome, total in (("hit", cache.hits), ("miss", cache.misses)):
            new = total - self._counted.get((name, outcome), 0)
            if new:
                self._buffer(self._lookups.inc, new, {"cache": name, "outcome": outcome})
                self._counted[name, outcome] = total


class IngressMetrics(StageMetrics):
    """Metrics of one ingress replica. Implements `ServiceMetrics`."""

    def __init__(self) -> None:
        super().__init__()
        self._counters = {
            name: Counter(f"prelabel_{name}", description=description)
            for name, description in (
                ("requests", "Predict requests that were answered."),
                ("requests_failed", "Requests that failed as a whole."),
                ("tasks", "Tasks that were answered."),
                ("tasks_failed", "Tasks that were answered with an error."),
                ("regions", "Regions in predictions: boxes, labels and prompts."),
                ("webhooks", "Webhooks that were received."),
                ("playground_requests", "Pictures that the playground was asked about."),
            )
        }
        self._errors = Counter(
            "prelabel_errors", description="Errors by type.", tag_keys=("error_type",)
        )
        self._requests = Histogram(
            "prelabel_request_seconds",
            description="Seconds of predict requests: interactive ones have one task, bulk more.",
            boundaries=_BUCKETS_S,
            tag_keys=("kind",),
        )
        self._in_progress = Gauge(
            "prelabel_tasks_in_progress", description="Tasks that are being worked on."
        )

    def count(self, report: Report) -> None:
        """Add the counts and the duration of a report."""
        self._buffer(self._count, report)

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
        """Record the number of tasks that are being worked on."""
        self._buffer(self._in_progress.set, tasks)
