"""From a picture to detections: tile, prepare, batch, select, merge.

Results of the model are cached, so that no view of a picture passes through the model twice for the
same phrases.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import astuple, replace

import numpy as np

from prelabel.concurrency.fairness import gather_or_cancel
from prelabel.concurrency.single_flight import SingleFlightCache
from prelabel.detection.batching import BatchGate
from prelabel.detection.pictures import Picture, PictureReader
from prelabel.detection.reduction import SeenSize, seen_sizes
from prelabel.detection.scoring import select_detections
from prelabel.detection.tiling import Tile, Tiling, merge_views, stack_views
from prelabel.engines.base import AnyEngine, PreparedItem
from prelabel.observability.timing import Observe, ignore_stage, timed
from prelabel.settings import CacheSettings, DetectionSettings, ReviewSettings
from prelabel.types import (
    DetectionQuery,
    Detections,
    ImageRGB,
    RawDetections,
    ReviewEvidence,
    Thresholds,
)

# Merging compares boxes in pairs. Boxes beyond the best 3,000 of a tiled picture are dropped, which
# matters only at thresholds near 0.
MAX_MERGED_BOXES = 3_000

# Boxes under this share of the thresholds say nothing about missed objects.
_FAINT_SHARE = 1 / 3

ChunkResults = tuple[RawDetections, ...]  # one view of a picture, all chunks of the phrases


class PictureDetector:
    """Answers detection queries with one engine. All methods must run in one event loop.

    Args:
        settings: Limits of tiles and batches.
        cache: Limits of the caches.
        engine: Prepares pictures; its forward pass runs behind the gate.
        gate: The batch gate in front of the engine.
        reader: Its threads prepare pictures.
        review: Says if detections carry evidence of their doubts.
        observe: Called with the seconds of "prepare".

    Attributes:
        results: Cache of the model's results, before any threshold, by digest, view and phrases.
    """

    def __init__(
        self,
        settings: DetectionSettings,
        cache: CacheSettings,
        engine: AnyEngine,
        gate: BatchGate[PreparedItem, RawDetections],
        reader: PictureReader,
        review: ReviewSettings | None = None,
        observe: Observe = ignore_stage,
    ) -> None:
        self._observe = observe
        self._tiling = Tiling.of(settings)
        # One batch runs and one waits. More prepared views would only take memory.
        self._max_prepared_views = 2 * settings.max_batch_size
        self._engine = engine
        self._gate = gate
        self._reader = reader
        review = review or ReviewSettings()
        self._collects_evidence = review.prediction_score == "uncertainty"
        self._looks_twice = self._collects_evidence and review.second_look
        self.results: SingleFlightCache[ChunkResults] = SingleFlightCache(
            _results_bytes, max_bytes=cache.result_bytes
        )

    async def detect(self, query: DetectionQuery, picture: Picture) -> Detections:
        """Return the detections of a query in its decoded picture.

        Boxes are xyxy in pixels of the upright picture, best score first, not yet suppressed; the
        candidates of a tiled picture are not yet merged.

        Raises:
            PromptError: A phrase has no words for the model, or does not fit a caption.
            DetectionError: The model failed on this picture.
        """
        views = self._tiling.views(picture.wh)
        slots = asyncio.Semaphore(self._max_prepared_views)
        by_view = await gather_or_cancel(
            self._detect_in_view(query, picture, view, slots) for view in views
        )
        merge = stack_views if query.candidates else merge_views
        found, *further = (
            merge(list(zip(views, of_look, strict=True)), MAX_MERGED_BOXES)
            for of_look in zip(*by_view, strict=True)
        )
        return replace(found, evidence=ReviewEvidence(*further)) if further else found

    def seen(self, image_wh: tuple[int, int]) -> Iterator[SeenSize]:
        """Return the size of each view of a picture, and the size at which the model sees it."""
        return seen_sizes(self._tiling.views(image_wh), self._engine.resized_hw)

    async def _detect_in_view(
        self, query: DetectionQuery, picture: Picture, view: Tile, slots: asyncio.Semaphore
    ) -> list[Detections]:
        """Return the detections in one view, then those of the evidence, in pixels of the view."""
        part = picture.part(view)
        region = part.region.within(view)

        async def chunks(*, mirrored: bool) -> ChunkResults:
            async with slots:
                key = (picture.digest, view, query.phrases, mirrored)
                return await self._chunks(key, query, part.pixels, mirrored=mirrored)

        def select(chunks: ChunkResults, thresholds: Thresholds) -> Detections:
            return select_detections(chunks, thresholds, view.wh, region)

        collects_evidence = self._collects_evidence and not query.candidates
        looks_twice = self._looks_twice and collects_evidence
        mirrorings = (False, True) if looks_twice else (False,)
        looks = await gather_or_cancel(chunks(mirrored=mirrored) for mirrored in mirrorings)
        found = [select(looks[0], query.thresholds)]
        if collects_evidence:
            faint = Thresholds(*(share * _FAINT_SHARE for share in astuple(query.thresholds)))
            found += [select(look, faint) for look in looks]
        return found

    async def _chunks(
        self, key: Hashable, query: DetectionQuery, pixels: ImageRGB, *, mirrored: bool
    ) -> ChunkResults:
        """Return the results of the model, in the frame of the picture as it is.

        The cache holds results before any threshold: other thresholds, a task that is opened again
        and Label Studio's request at Submit cost no second pass through the model.
        """

        async def run() -> ChunkResults:
            if not mirrored:
                return await self._run_model(query, pixels)
            chunks = await self._run_model(query, np.ascontiguousarray(pixels[:, ::-1]))
            return tuple(_mirrored(chunk) for chunk in chunks)

        # By rank, an urgent query never waits for a bulk query that has the same key.
        return await self.results.get(key, run, rank=query.urgent)

    async def _run_model(self, query: DetectionQuery, image: ImageRGB) -> ChunkResults:
        with timed(self._observe, "prepare"):
            items = await self._reader.run(query.urgent, self._prepare, image, query.phrases)
        chunks = await gather_or_cancel(
            self._gate.submit(item, item.bucket, urgent=query.urgent) for item in items
        )
        return tuple(chunks)

    def _prepare(self, image: ImageRGB, phrases: Sequence[str]) -> Sequence[PreparedItem]:
        items: list[PreparedItem] = self._engine.prepare(image, phrases)
        return items


def _mirrored(raw: RawDetections) -> RawDetections:
    """Return the detections of a mirrored picture in the picture as it is."""
    boxes = raw.boxes_xyxy_norm.copy()
    boxes[:, [0, 2]] = 1 - raw.boxes_xyxy_norm[:, [2, 0]]
    return replace(raw, boxes_xyxy_norm=boxes)


def _results_bytes(chunks: ChunkResults) -> int:
    return sum(
        raw.boxes_xyxy_norm.nbytes + raw.phrase_max.nbytes + raw.phrase_mean.nbytes
        for raw in chunks
    )
