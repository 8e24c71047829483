"""The deployment that holds the models: Serve's batch entry, then the batch gates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from ray import serve

from deployments.logs import use_serve_log
from deployments.metrics import DetectorMetrics
from deployments.placement import DetectorPlace, decode_processes_here, threads_here
from prelabel.checkpoints.cards import ModelCard, SegmenterCard
from prelabel.engines import EngineLoader
from prelabel.observability.request_context import RequestContext
from prelabel.observability.spans import TraceSettings
from prelabel.observability.tracing import open_tracer
from prelabel.segmentation.device_models import (
    BROKEN_AFTER_FAILURES,
    DeviceModels,
    DeviceObservers,
    DeviceResources,
)
from prelabel.segmentation.grounded import DetectionOutcome
from prelabel.settings import AppSettings
from prelabel.types import DetectionQuery, SegmentationQuery

_STUCK_AFTER_S = 300  # a batch takes half a second by design, and minutes on a loaded CPU


class Detector:
    """Runs one detector, and one segmenter beside it, on one device.

    Both share the device's thread and the decoded picture; docs/developer/adr/0009 has the
    reasons. They are loaded in the constructor, and an exception there keeps the replica from
    starting.
    """

    def __init__(
        self,
        settings: AppSettings,
        card: ModelCard,
        place: DetectorPlace,
        load: EngineLoader,
        segmenter: SegmenterCard | None = None,
        cpu_threads: Callable[[], int] = threads_here,
        decode_processes: Callable[[], int] = decode_processes_here,
        traces: TraceSettings | None = None,
    ) -> None:
        use_serve_log(settings.log_level)
        self._tracer = open_tracer(traces, "detector")
        self._metrics = DetectorMetrics()
        on_cpu = place.device == "cpu"
        self._models = DeviceModels(
            settings,
            card,
            segmenter,
            DeviceResources(
                place.device,
                cpu_threads=cpu_threads() if on_cpu else 1,
                decode_processes=1 if on_cpu else decode_processes(),
            ),
            load,
            DeviceObservers(
                stage=self._tracer.beside(self._metrics.observe),
                gate=self._metrics.observe,
                batch=self._metrics.batch,
                trace=self._tracer.stage,
            ),
        )
        self.pictures = self._models.pictures

    async def __call__(
        self, query: DetectionQuery, context: RequestContext
    ) -> AsyncIterator[DetectionOutcome]:
        """Yield the one outcome of a query: detections, or a PrelabelError as a value.

        An error is a value because Serve logs a traceback for each exception. The method is a
        generator because of Serve's router; `deployments.handles.streamed` explains it.
        """
        admitted: asyncio.Task[DetectionOutcome] = await self._admit((query, context))
        self._metrics.waiting(self._models.gate.waiting)
        try:
            yield await admitted
        finally:
            self._metrics.waiting(self._models.gate.waiting)
            self._count_lookups()

    async def segment(
        self, query: SegmentationQuery, context: RequestContext
    ) -> AsyncIterator[DetectionOutcome]:
        """Yield the one outcome of a query: masks of marked objects, or a PrelabelError."""
        try:
            with self._tracer.restore(context):
                outcome = await self.pictures.segment(query)
            yield outcome
        finally:
            self._count_lookups()

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
        """Raise RuntimeError if a model hangs or fails, so that Serve replaces the replica."""
        if any(gate.busy_s > _STUCK_AFTER_S for gate in self._models.gates):
            raise RuntimeError(f"the model has been busy with one batch for {_STUCK_AFTER_S} s")
        if self._models.fails:
            raise RuntimeError(f"the model failed on {BROKEN_AFTER_FAILURES} batches in a row")

    def _count_lookups(self) -> None:
        self._metrics.cache("results", self.pictures.detector.results)
        self._metrics.cache("decoded", self.pictures.reader.decoded)
        if self.pictures.segmenter is not None:
            self._metrics.cache("encodings", self.pictures.segmenter.encodings)
