"""The deployment that holds the models: Serve's batch entry, then the batch gates."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ray import serve

from deployments.logs import use_serve_log
from deployments.metrics import DetectorMetrics
from deployments.placement import DetectorPlace, decode_processes_here, threads_here
from prelabel.checkpoints.cards import ModelCard, SegmenterCard, model_folder
from prelabel.detection.batching import BatchGate, device_thread
from prelabel.detection.detector import PictureDetector
from prelabel.detection.pictures import PictureReader
from prelabel.detection.smoke_test import check_engine
from prelabel.detection.suppression import Suppression
from prelabel.detection.tiling import Tiling
from prelabel.engines import EngineLoader, load_segmenter
from prelabel.engines.base import PreparedItem
from prelabel.images.decode_pool import DecodePool
from prelabel.observability.request_context import RequestContext
from prelabel.observability.spans import TraceSettings
from prelabel.observability.timing import Observe
from prelabel.observability.tracing import open_tracer
from prelabel.segmentation.grounded import DetectionOutcome, GroundedSegmenter
from prelabel.segmentation.segmenter import DecodeGate, EncodeGate, PictureSegmenter
from prelabel.segmentation.smoke_test import check_segmenter
from prelabel.segmentation.views import ViewRule
from prelabel.settings import AppSettings
from prelabel.types import DetectionQuery, RawDetections, SegmentationQuery

logger = logging.getLogger(__name__)

_STUCK_AFTER_S = 300  # a batch takes half a second by design, and minutes on a loaded CPU
_BROKEN_AFTER_FAILURES = 8
_SWITCH_S = 0.0005
_CPU_PREPARE_THREADS = 2  # beside a model on the same cores; one alone would wait for the queue


class Detector:
    """Runs one detector, and one segmenter beside it, on one device.

    Both share the device's thread and the decoded picture; docs/adr/0009 has the reasons. They are
    loaded in the constructor, and an exception there keeps the replica from starting.
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
        observe = self._tracer.beside(self._metrics.observe)
        self._gate: BatchGate[PreparedItem, RawDetections] = BatchGate(
            engine.detect,
            max_batch_size=settings.detection.max_batch_size,
            on_batch=self._metrics.batch,
            observe=self._metrics.observe,
            trace=self._tracer.stage,
            device=device,
        )
        self._gates: list[BatchGate[Any, Any]] = [self._gate]
        reader = _picture_reader(settings, place, decode_processes, observe)
        self.pictures = GroundedSegmenter(
            reader,
            PictureDetector(
                settings.detection,
                settings.cache,
                engine,
                self._gate,
                reader,
                settings.review,
                observe,
            ),
            self._segmenter(settings, segmenter, place, device, reader) if segmenter else None,
            Suppression.of(settings.detection),
            settings.masks.max_masks,
        )
        logger.info("%s is ready: %s. %s. %s", card.name, verdict, card.title, card.limits)

    def _segmenter(
        self,
        settings: AppSettings,
        card: SegmenterCard,
        place: DetectorPlace,
        device: ThreadPoolExecutor,
        reader: PictureReader,
    ) -> PictureSegmenter:
        engine = device.submit(
            load_segmenter,
            card,
            model_folder(card, settings.model.folder),
            device=place.device,
            precision=settings.model.precision,
        ).result()
        verdict = device.submit(check_segmenter, engine, card.name).result()
        logger.info("%s is ready: %s. %s. %s", card.name, verdict, card.title, card.limits)
        most = settings.detection.max_batch_size
        encoder: EncodeGate = BatchGate(engine.encode, max_batch_size=most, device=device)
        decoder: DecodeGate = BatchGate(engine.decode, max_batch_size=most, device=device)
        self._gates += [encoder, decoder]
        return PictureSegmenter(
            ViewRule(Tiling.of(settings.detection), card.square_views, settings.masks.box_margin),
            most,
            settings.cache,
            engine,
            encoder,
            decoder,
            reader,
            self._tracer.beside(self._metrics.observe),
        )

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
        if any(gate.busy_s > _STUCK_AFTER_S for gate in self._gates):
            raise RuntimeError(f"the model has been busy with one batch for {_STUCK_AFTER_S} s")
        if any(gate.failures_in_a_row >= _BROKEN_AFTER_FAILURES for gate in self._gates):
            raise RuntimeError(f"the model failed on {_BROKEN_AFTER_FAILURES} batches in a row")

    def _count_lookups(self) -> None:
        self._metrics.cache("results", self.pictures.detector.results)
        self._metrics.cache("decoded", self.pictures.reader.decoded)
        if self.pictures.segmenter is not None:
            self._metrics.cache("encodings", self.pictures.segmenter.encodings)


def _picture_reader(
    settings: AppSettings, place: DetectorPlace, processes: Callable[[], int], observe: Observe
) -> PictureReader:
    """Return a reader that decodes beside a GPU in processes, and on a CPU in threads."""
    common: dict[str, Any] = {
        "max_pixels": settings.images.max_pixels,
        # One batch runs and one waits.
        "max_bulk": 2 * settings.detection.max_batch_size,
        "observe": observe,
    }
    if place.device == "cpu":
        return PictureReader(settings.cache, threads=_CPU_PREPARE_THREADS, **common)
    # Python's default of 5 ms is a third of a pass: for so long a thread that has an answer of a
    # decoder waits for the thread that launches kernels, or the latter for the former.
    sys.setswitchinterval(_SWITCH_S)
    threads = processes()
    pool = DecodePool(threads + 1)  # one for the urgent pictures' thread
    return PictureReader(settings.cache, threads=threads, decode=pool, **common)
