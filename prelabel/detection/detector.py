"""From the bytes of a picture to detections: decode, tile, prepare, batch, select, merge.

Decoded pictures and results of the model are cached, so that no view of a picture passes through
the model twice for the same phrases.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from prelabel.concurrency.fairness import gather_or_cancel
from prelabel.concurrency.single_flight import SingleFlightCache
from prelabel.detection.batching import BatchGate
from prelabel.detection.scoring import select_detections
from prelabel.detection.tiling import Tile, Tiling, merge_views
from prelabel.engines.base import AnyEngine, PreparedItem
from prelabel.errors import PrelabelError
from prelabel.images.decode import decode_image
from prelabel.observability.timing import Observe, ignore_stage, timed
from prelabel.settings import CacheSettings, DetectionSettings
from prelabel.types import DetectionQuery, Detections, ImageRGB, RawDetections

# Hashing up to this size in the event loop takes less time than the way to a thread and back.
_MAX_INLINE_DIGEST_BYTES = 256 * 1024
# Merging compares boxes in pairs. Boxes beyond the best 3,000 of a tiled picture are dropped, which
# matters only at thresholds near 0.
_MAX_MERGED_BOXES = 3_000

DetectionOutcome = Detections | PrelabelError
ChunkResults = tuple[RawDetections, ...]  # one view of a picture, all chunks of the phrases
ResultT = TypeVar("ResultT")


class PictureDetector:
    """Answers detection queries with one engine. All methods must run in one event loop.

    Args:
        settings: Limits of tiles and batches.
        cache: Limits of the caches.
        engine: Prepares pictures; its forward pass runs behind the gate.
        gate: The batch gate in front of the engine.
        max_pixels: Most pixels of a picture.
        preparing_threads: Number of threads that decode and resize bulk pictures while the forward
            pass of the batch before runs. Urgent pictures have one thread of their own.
        observe: Called with the seconds of "decode" and "prepare".

    Attributes:
        decoded: Cache of decoded pictures by digest, for urgent queries only: an annotator often
            sends another query for the same picture.
        results: Cache of the model's results, before any threshold, by digest, view and phrases.
    """

    def __init__(
        self,
        settings: DetectionSettings,
        cache: CacheSettings,
        engine: AnyEngine,
        gate: BatchGate[PreparedItem, RawDetections],
        *,
        max_pixels: int,
        preparing_threads: int,
        observe: Observe = ignore_stage,
    ) -> None:
        self._observe = observe
        self._max_pixels = max_pixels
        self._tiling = Tiling(settings.tile_size, settings.tile_overlap, settings.max_tiles)
        # One batch runs and one waits. More prepared views would only take memory.
        self._max_prepared_views = 2 * settings.max_batch_size
        self._engine = engine
        self._gate = gate
        self.decoded: SingleFlightCache[ImageRGB] = SingleFlightCache(
            lambda image: image.nbytes,
            max_bytes=cache.picture_bytes,
            max_age_s=cache.picture_s,
        )
        self.results: SingleFlightCache[ChunkResults] = SingleFlightCache(
            _results_bytes, max_bytes=cache.result_bytes
        )
        self._preparing = ThreadPoolExecutor(preparing_threads, thread_name_prefix="prepare")
        self._preparing_urgent = ThreadPoolExecutor(1, thread_name_prefix="prepare-urgent")

    async def detect(self, query: DetectionQuery) -> DetectionOutcome:
        """Return the detections of one picture, or the error as a value.

        Boxes are xyxy in pixels of the upright picture, best score first, not yet suppressed.
        """
        try:
            if len(query.image) <= _MAX_INLINE_DIGEST_BYTES:
                digest = _digest(query.image)
            else:
                digest = await self._in_preparing_thread(query, _digest, query.image)
            image = await self._decoded_image(query, digest)
            views = self._tiling.views((image.shape[1], image.shape[0]))
            slots = asyncio.Semaphore(self._max_prepared_views)
            detections = await gather_or_cancel(
                self._detect_in_view(query, digest, image, view, slots) for view in views
            )
            return merge_views(list(zip(views, detections, strict=True)), _MAX_MERGED_BOXES)
        except PrelabelError as error:
            return error

    async def _decoded_image(self, query: DetectionQuery, digest: bytes) -> ImageRGB:
        async def decode() -> ImageRGB:
            with timed(self._observe, "decode"):
                return await self._in_preparing_thread(query, self._decode, query.image)

        # A bulk request needs each picture once, so that caching it would only take memory.
        return await (self.decoded.get(digest, decode) if query.urgent else decode())

    async def _detect_in_view(
        self,
        query: DetectionQuery,
        digest: bytes,
        image: ImageRGB,
        view: Tile,
        slots: asyncio.Semaphore,
    ) -> Detections:
        """Return the detections in one view, in pixels of the view.

        The cache holds results before any threshold: other thresholds, a task that is opened again
        and Label Studio's request at Submit cost no second pass through the model.
        """

        async def run() -> ChunkResults:
            return await self._run_model(query, image, view)

        async with slots:
            # By rank, an urgent query never waits for a bulk query that has the same key.
            key = (digest, view, query.phrases)
            chunks = await self.results.get(key, run, rank=query.urgent)
        return select_detections(chunks, query.thresholds, view.wh)

    async def _run_model(self, query: DetectionQuery, image: ImageRGB, view: Tile) -> ChunkResults:
        part = image[view.top : view.bottom, view.left : view.right]
        with timed(self._observe, "prepare"):
            items = await self._in_preparing_thread(query, self._prepare, part, query.phrases)
        chunks = await gather_or_cancel(
            self._gate.submit(item, item.bucket, urgent=query.urgent) for item in items
        )
        return tuple(chunks)

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


def _digest(encoded: bytes) -> bytes:
    return hashlib.sha256(encoded).digest()


def _results_bytes(chunks: ChunkResults) -> int:
    return sum(
        raw.boxes_xyxy_norm.nbytes + raw.phrase_max.nbytes + raw.phrase_mean.nbytes
        for raw in chunks
    )
