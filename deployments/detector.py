"""The replica that holds the model: Serve's batch entry, then the batch gate."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

from ray import serve

from deployments.logs import use_serve_log
from deployments.metrics import DetectorMetrics
from deployments.placement import DetectorPlace, threads_here
from prelabel.checkpoints.cards import ModelCard, model_folder
from prelabel.detection.batching import BatchGate, device_thread
from prelabel.detection.detector import DetectionOutcome, PictureDetector
from prelabel.detection.smoke_test import check_engine
from prelabel.engines import EngineLoader
from prelabel.engines.base import PreparedItem
from prelabel.observability.spans import TraceSettings
from prelabel.observability.tracing import open_tracer
from prelabel.settings.application import AppSettings
from prelabel.types import DetectionQuery, RawDetections

logger = logging.getLogger(__name__)

_STUCK_AFTER_S = 300
_BROKEN_AFTER_FAILURES = 8
_PREPARING_THREADS = {"cpu": 2, "cuda": 4}  # a GPU is hungrier


class Detector:
    """One checkpoint on one device."""

    def __init__(
        self,
        settings: AppSettings,
        card: ModelCard,
        place: DetectorPlace,
        load: EngineLoader,
        cpu_threads: Callable[[], int] = threads_here,
        traces: TraceSettings | None = None,
    ) -> None:
        use_serve_log(settings.log_level)
        self._tracer = open_tracer(traces, "detector")
        device = device_thread()
        engine = device.submit(
            load,
            card,
            model_folder(card, settings.models_dir),
            device=place.device,
            precision=settings.precision,
            cpu_threads=cpu_threads() if place.device == "cpu" else None,
        ).result()
        verdict = device.submit(check_engine, engine, card.name).result()
        self._metrics = DetectorMetrics()
        self._gate: BatchGate[PreparedItem, RawDetections] = BatchGate(
            engine.detect,
            max_batch_size=settings.max_batch_size,
            on_batch=self._metrics.batch,
            observe=self._metrics.observe,
            trace=self._tracer.stage,
            device=device,
        )
        threads = _PREPARING_THREADS[place.device]
        self.pictures = PictureDetector(
            settings, engine, self._gate, threads, self._tracer.beside(self._metrics.observe)
        )
        logger.info("%s is ready: %s. %s. %s", card.name, verdict, card.title, card.limits)

    async def __call__(self, query: DetectionQuery) -> AsyncIterator[DetectionOutcome]:
        """Yields the detections of one picture, once; `deployments.handles` says why it yields. An
        error is a value here, so that it arrives as it left.
        """
        admitted: asyncio.Task[DetectionOutcome] = await self._admit(query)
        self._metrics.waiting(self._gate.waiting)
        try:
            yield await admitted
        finally:
            self._metrics.waiting(self._gate.waiting)
            self._metrics.cache("results", self.pictures.results)
            self._metrics.cache("decoded", self.pictures.decoded)

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0, max_concurrent_batches=1)
    async def _admit(self, queries: list[DetectionQuery]) -> list[asyncio.Task[DetectionOutcome]]:
        """Let in what came together. The answer is the running work, not its result.

        So nobody waits for the slowest of those that came with him, and a caller who goes away
        cancels his own work alone, while it waits at the gate.
        """
        return [asyncio.create_task(self._detect(query)) for query in queries]

    async def _detect(self, query: DetectionQuery) -> DetectionOutcome:
        with self._tracer.within(query.traceparent):
            return await self.pictures.detect(query)

    def check_health(self) -> None:
        """Serve replaces the replica when this raises."""
        if self._gate.busy_s > _STUCK_AFTER_S:
            raise RuntimeError(f"the model has been busy with one batch for {_STUCK_AFTER_S} s")
        if self._gate.failures_in_a_row >= _BROKEN_AFTER_FAILURES:
            raise RuntimeError(f"the model failed on {_BROKEN_AFTER_FAILURES} batches in a row")
