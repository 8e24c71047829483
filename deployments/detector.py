"""The deployment that holds the model: Serve's batch entry, then the batch gate."""

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
from prelabel.observability.request_context import RequestContext
from prelabel.observability.spans import TraceSettings
from prelabel.observability.tracing import open_tracer
from prelabel.settings import AppSettings
from prelabel.types import DetectionQuery, RawDetections

logger = logging.getLogger(__name__)

_STUCK_AFTER_S = 300  # a batch takes half a second by design, and minutes on a loaded CPU
_BROKEN_AFTER_FAILURES = 8
# Threads that decode and resize. A GPU takes more pictures a second than two threads prepare.
_PREPARE_THREADS = {"cpu": 2, "cuda": 4}


class Detector:
    """Runs one checkpoint on one device.

    The engine is loaded in the constructor, and an exception there keeps the replica from
    starting.
    """

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
            model_folder(card, settings.model.folder),
            device=place.device,
            precision=settings.model.precision,
            cpu_threads=cpu_threads() if place.device == "cpu" else None,
        ).result()
        verdict = device.submit(check_engine, engine, card.name).result()
        self._metrics = DetectorMetrics()
        self._gate: BatchGate[PreparedItem, RawDetections] = BatchGate(
            engine.detect,
            max_batch_size=settings.detection.max_batch_size,
            on_batch=self._metrics.batch,
            observe=self._metrics.observe,
            trace=self._tracer.stage,
            device=device,
        )
        threads = _PREPARE_THREADS[place.device]
        self.pictures = PictureDetector(
            settings.detection,
            settings.cache,
            engine,
            self._gate,
            max_pixels=settings.images.max_pixels,
            preparing_threads=threads,
            observe=self._tracer.beside(self._metrics.observe),
        )
        logger.info("%s is ready: %s. %s. %s", card.name, verdict, card.title, card.limits)

    async def __call__(
        self, query: DetectionQuery, context: RequestContext
    ) -> AsyncIterator[DetectionOutcome]:
        """Yield the one outcome of a query: detections, or a PrelabelError as a value.

        An error is a value because Serve logs a traceback for each exception. The method is a
        generator because of Serve's router; `deployments.handles.streamed` explains it.
        """
        admitted: asyncio.Task[DetectionOutcome] = await self._admit((query, context))
        self._metrics.waiting(self._gate.waiting)
        try:
            yield await admitted
        finally:
            self._metrics.waiting(self._gate.waiting)
            self._metrics.cache("results", self.pictures.results)
            self._metrics.cache("decoded", self.pictures.decoded)

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0, max_concurrent_batches=1)
    async def _admit(
        self, calls: list[tuple[DetectionQuery, RequestContext]]
    ) -> list[asyncio.Task[DetectionOutcome]]:
        """Admit the queries that `@serve.batch` collected, and return their running tasks.

        Serve's batching is for admission alone: it closes a batch before the device is free, so
        the gate forms the batches of the model. Returning tasks and not results keeps a query from
        waiting for the slowest one of its batch, and a cancelled caller from cancelling others.

        Serve runs this method outside of its callers' contexts. The request context therefore
        travels as an argument, and is restored in `_detect`.
        """
        return [asyncio.create_task(self._detect(query, context)) for query, context in calls]

    async def _detect(self, query: DetectionQuery, context: RequestContext) -> DetectionOutcome:
        with self._tracer.restore(context):
            return await self.pictures.detect(query)

    def check_health(self) -> None:
        """Raise RuntimeError if the model hangs or fails, so that Serve replaces the replica."""
        if self._gate.busy_s > _STUCK_AFTER_S:
            raise RuntimeError(f"the model has been busy with one batch for {_STUCK_AFTER_S} s")
        if self._gate.failures_in_a_row >= _BROKEN_AFTER_FAILURES:
            raise RuntimeError(f"the model failed on {_BROKEN_AFTER_FAILURES} batches in a row")
