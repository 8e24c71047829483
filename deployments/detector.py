"""The replica that holds the model: Serve's batch entry, then the batch gate."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ray import serve
from ray.util.metrics import Histogram

from deployments.logs import use_serve_log
from deployments.placement import DetectorPlace
from prelabel.batching import BatchGate
from prelabel.cards import ModelCard, model_folder
from prelabel.engines import load_engine
from prelabel.engines.base import PreparedItem
from prelabel.errors import PrelabelError
from prelabel.images import decode_image
from prelabel.scoring import select_detections
from prelabel.settings import AppSettings
from prelabel.tiling import Tile, Tiling, merge_views
from prelabel.types import DetectionQuery, Detections, ImageRGB, RawDetections

logger = logging.getLogger(__name__)

_STUCK_AFTER_S = 300
_BROKEN_AFTER_FAILURES = 8
_PREPARING_THREADS = {"cpu": 2, "cuda": 4}  # a GPU is hungrier
_BOXES_MERGED = 3_000  # best boxes of a picture with tiles; more matter only at thresholds near 0

Outcome = Detections | PrelabelError
ResultT = TypeVar("ResultT")


class Detector:
    """One checkpoint on one device. Decodes and resizes beside the forward of the batch before."""

    def __init__(self, settings: AppSettings, card: ModelCard, place: DetectorPlace) -> None:
        use_serve_log(settings.log_level)
        self._max_pixels = settings.max_image_pixels
        self._tiling = Tiling(settings.tile_size, settings.tile_overlap, settings.max_tiles)
        self._views_at_once = 2 * settings.max_batch_size  # of a picture: one batch runs, one waits
        self._engine = load_engine(
            card,
            model_folder(card, settings.models_dir),
            device=place.device,
            precision=settings.precision,
            cpu_threads=place.cpu_threads,
        )
        sizes = Histogram(
            "prelabel_batch_size",
            description="Pictures in one pass through the model.",
            boundaries=[1, 2, 4, 8, 16, 32, 64, 128],
        )
        self._gate: BatchGate[PreparedItem, RawDetections] = BatchGate(
            self._engine.detect, max_batch_size=settings.max_batch_size, on_batch=sizes.observe
        )
        self._preparing = ThreadPoolExecutor(
            _PREPARING_THREADS[place.device], thread_name_prefix="prepare"
        )
        self._preparing_urgent = ThreadPoolExecutor(1, thread_name_prefix="prepare-urgent")
        logger.info("%s is ready on %s: %s. %s", card.name, place.device, card.title, card.limits)

    async def __call__(self, query: DetectionQuery) -> Outcome:
        """Detections of one picture; an error is a value here, so that it arrives as it left."""
        admitted: asyncio.Task[Outcome] = await self._admit(query)
        return await admitted

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0, max_concurrent_batches=1)
    async def _admit(self, queries: list[DetectionQuery]) -> list[asyncio.Task[Outcome]]:
        """Let in what came together. The answer is the running work, not its result.

        So nobody waits for the slowest of those that came with him, and a caller who goes away
        cancels his own work alone, while it waits at the gate.
        """
        return [asyncio.create_task(self._detect(query)) for query in queries]

    async def _detect(self, query: DetectionQuery) -> Outcome:
        try:
            image = await self._in_preparing_thread(query, self._decode, query.image)
            views = self._tiling.views((image.shape[1], image.shape[0]))
            room = asyncio.Semaphore(self._views_at_once)
            looks = [asyncio.create_task(self._look(query, image, view, room)) for view in views]
            try:
                found = await asyncio.gather(*looks)
            finally:
                for look in looks:  # one failed: the picture does, so the others are for nothing
                    look.cancel()
            return merge_views(list(zip(views, found, strict=True)), _BOXES_MERGED)
        except PrelabelError as error:
            return error

    async def _look(
        self, query: DetectionQuery, image: ImageRGB, view: Tile, room: asyncio.Semaphore
    ) -> Detections:
        """Detections in one part of the picture, in its pixels. Prepared pixels are large, so no
        more parts are prepared than the gate takes soon.
        """
        async with room:
            part = image[view.top : view.bottom, view.left : view.right]
            items = await self._in_preparing_thread(query, self._prepare, part, query.phrases)
            found = await asyncio.gather(
                *(
                    self._gate.submit(
                        item, item.bucket, urgent=query.urgent, request_id=query.request_id
                    )
                    for item in items
                )
            )
        return select_detections(found, query.thresholds, view.wh)

    async def _in_preparing_thread(
        self, query: DetectionQuery, work: Callable[..., ResultT], *arguments: Any
    ) -> ResultT:
        threads = self._preparing_urgent if query.urgent else self._preparing
        return await asyncio.get_running_loop().run_in_executor(threads, work, *arguments)

    def _decode(self, encoded: bytes) -> ImageRGB:
        return decode_image(encoded, max_pixels=self._max_pixels)

    def _prepare(self, image: ImageRGB, phrases: Sequence[str]) -> Sequence[PreparedItem]:
        items: list[PreparedItem] = self._engine.prepare(image, phrases)
        return items

    def check_health(self) -> None:
        """Serve replaces the replica when this raises."""
        if self._gate.busy_s > _STUCK_AFTER_S:
            raise RuntimeError(f"the model has been busy with one batch for {_STUCK_AFTER_S} s")
        if self._gate.failures_in_a_row >= _BROKEN_AFTER_FAILURES:
            raise RuntimeError(f"the model failed on {_BROKEN_AFTER_FAILURES} batches in a row")
