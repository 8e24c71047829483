"""From a picture's bytes to detections: decode, cut, prepare, wait at the gate, select, merge.

What was seen is kept, so that nothing passes through the model twice.
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

_DIGESTED_AT_ONCE = 256 * 1024  # bytes: that takes less time than the way to a thread and back
_BOXES_MERGED = 3_000  # best boxes of a picture with tiles; more matter only at thresholds near 0

Outcome = Detections | PrelabelError
Seen = tuple[RawDetections, ...]  # of all chunks of the phrases, in one view of a picture
ResultT = TypeVar("ResultT")


class PictureDetector:
    """Answers queries with one engine. All methods belong to one event loop.

    gate: in front of the engine; max_pixels: of a picture; preparing_threads: to decode and resize
    in, beside the forward pass of the batch before; observe: told how long that takes.
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
        self._views_at_once = 2 * settings.max_batch_size  # of a picture: one batch runs, one waits
        self._engine = engine
        self._gate = gate
        self.pictures: SingleFlightCache[ImageRGB] = SingleFlightCache(
            lambda image: image.nbytes,
            max_bytes=cache.picture_bytes,
            max_age_s=cache.picture_s,
        )
        self.seen: SingleFlightCache[Seen] = SingleFlightCache(
            _bytes_of, max_bytes=cache.result_bytes
        )
        self._preparing = ThreadPoolExecutor(preparing_threads, thread_name_prefix="prepare")
        self._preparing_urgent = ThreadPoolExecutor(1, thread_name_prefix="prepare-urgent")

    async def detect(self, query: DetectionQuery) -> Outcome:
        """Detections of one picture, or why there are none."""
        try:
            if len(query.image) <= _DIGESTED_AT_ONCE:
                digest = _digest(query.image)
            else:
                digest = await self._in_preparing_thread(query, _digest, query.image)
            image = await self._decoded(query, digest)
            views = self._tiling.views((image.shape[1], image.shape[0]))
            room = asyncio.Semaphore(self._views_at_once)
            found = await gather_or_cancel(
                self._look(query, digest, image, view, room) for view in views
            )
            return merge_views(list(zip(views, found, strict=True)), _BOXES_MERGED)
        except PrelabelError as error:
            return error

    async def _decoded(self, query: DetectionQuery, digest: bytes) -> ImageRGB:
        """The picture; kept while somebody works on it, who may ask again."""

        async def decode() -> ImageRGB:
            with timed(self._observe, "decode"):
                return await self._in_preparing_thread(query, self._decode, query.image)

        return await (self.pictures.get(digest, decode) if query.urgent else decode())

    async def _look(
        self,
        query: DetectionQuery,
        digest: bytes,
        image: ImageRGB,
        view: Tile,
        room: asyncio.Semaphore,
    ) -> Detections:
        """Detections in one part of the picture, in its pixels. Other thresholds, a task opened
        again and what Label Studio asks at Submit cost no second pass through the model.
        """

        async def see() -> Seen:
            return await self._see(query, image, view)

        async with room:
            seen = await self.seen.get((digest, view, query.phrases), see, rank=query.urgent)
        return select_detections(seen, query.thresholds, view.wh)

    async def _see(self, query: DetectionQuery, image: ImageRGB, view: Tile) -> Seen:
        """What the model says of one part of the picture. Prepared pixels are large: `_look` lets
        no more parts be prepared than the gate takes soon.
        """
        part = image[view.top : view.bottom, view.left : view.right]
        with timed(self._observe, "prepare"):
            items = await self._in_preparing_thread(query, self._prepare, part, query.phrases)
        seen = await gather_or_cancel(
            self._gate.submit(item, item.bucket, urgent=query.urgent) for item in items
        )
        return tuple(seen)

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


def _bytes_of(seen: Seen) -> int:
    return sum(
        raw.boxes_xyxy_norm.nbytes + raw.phrase_max.nbytes + raw.phrase_mean.nbytes for raw in seen
    )
