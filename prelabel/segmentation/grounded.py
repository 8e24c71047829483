"""Grounded SAM: boxes of phrases, then the masks of the boxes that are kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

import numpy as np

from prelabel.boxes import clip_xyxy, pct_to_px
from prelabel.detection.detector import PictureDetector
from prelabel.detection.pictures import Picture, PictureReader
from prelabel.detection.reduction import SeenSize, reduction
from prelabel.detection.suppression import Suppression, chosen_rows
from prelabel.errors import ModelError, PrelabelError
from prelabel.segmentation.segmenter import PictureSegmenter
from prelabel.types import (
    DetectionQuery,
    Detections,
    LookPlan,
    MaskLogits,
    MaskPrompt,
    SegmentationQuery,
)

DetectionOutcome = Detections | PrelabelError


class GroundedSegmenter:
    """Answers queries for boxes, for boxes with masks, and for masks of marked objects.

    Args:
        reader: Decodes pictures.
        detector: Finds boxes.
        segmenter: Finds masks; None if the service draws none.
        suppression: Limits on boxes.
        max_masks: Most masks of a picture.
    """

    def __init__(
        self,
        reader: PictureReader,
        detector: PictureDetector,
        segmenter: PictureSegmenter | None,
        suppression: Suppression,
        max_masks: int,
    ) -> None:
        self.reader = reader
        self.detector = detector
        self.segmenter = segmenter
        self._suppression = suppression
        self._max_masks = max_masks

    async def detect(self, query: DetectionQuery) -> DetectionOutcome:
        """Return the boxes of a query, with masks if it wants them, or the error as a value."""
        try:
            async with self.reader.room(query.urgent):
                return await self._detect(query)
        except PrelabelError as error:
            return error

    async def _detect(self, query: DetectionQuery) -> Detections:
        picture = await self._read(query.image, query.urgent)
        detections = await self.detector.detect(query, picture)
        detections = replace(detections, picture_hash=picture.looks_like)
        if query.look is None or self.segmenter is None:
            return detections
        return await self._with_masks(detections, query.look, picture, self.segmenter)

    async def segment(self, query: SegmentationQuery) -> DetectionOutcome:
        """Return the masks of marked objects, one for each prompt, or the error as a value."""
        try:
            if self.segmenter is None:
                raise ModelError("The service has no segmenter. Set model.segmenter.")
            async with self.reader.room(query.urgent):
                picture = await self._read(query.image, query.urgent)
                prompts = [_in_pixels(prompt, picture.wh) for prompt in query.prompts_pct]
                masks = await self.segmenter.segment(picture, prompts)
        except PrelabelError as error:
            return error
        boxes = [prompt.box_xyxy or (0.0,) * 4 for prompt in prompts]
        return Detections(
            boxes_xyxy=np.array(boxes, np.float32).reshape(-1, 4),
            scores=np.array([mask.quality for mask in masks], np.float32),
            phrase_index=np.arange(len(masks), dtype=np.int64),
            image_wh=picture.wh,
            masks=tuple(masks),
        )

    async def _read(self, encoded: bytes, urgent: bool) -> Picture:
        return await self.reader.read(encoded, urgent=urgent, scale_of=self._reduction)

    def _reduction(self, image_wh: tuple[int, int]) -> int:
        """Return by how much a picture may be reduced for both models."""
        seen: Iterator[SeenSize] = self.detector.seen(image_wh)
        if self.segmenter is not None:
            seen = chain(seen, self.segmenter.seen(image_wh))
        return reduction(image_wh, seen)

    async def _with_masks(
        self,
        detections: Detections,
        look: LookPlan,
        picture: Picture,
        segmenter: PictureSegmenter,
    ) -> Detections:
        kept = detections.take(chosen_rows(look, detections, self._suppression))
        rows = [row for row in range(len(kept.scores)) if _wants_mask(look, kept, row)]
        masks: list[MaskLogits | None] = [None] * len(kept.scores)
        if rows := rows[: self._max_masks]:
            boxes = clip_xyxy(kept.boxes_xyxy, picture.wh)[rows].tolist()
            prompts = [MaskPrompt(box_xyxy=(x0, y0, x1, y1)) for x0, y0, x1, y1 in boxes]
            for row, mask in zip(rows, await segmenter.segment(picture, prompts), strict=True):
                masks[row] = mask
        elif picture.urgent:  # nothing was found: the annotator will click
            segmenter.encode_ahead(picture)
        return replace(kept, masks=tuple(masks))


def _wants_mask(look: LookPlan, detections: Detections, row: int) -> bool:
    target = look.targets[detections.phrase_index[row]]
    return target is not None and any(
        detections.scores[row] >= mask.min_score for mask in target.masks
    )


def _in_pixels(prompt: MaskPrompt, image_wh: tuple[int, int]) -> MaskPrompt:
    """Convert a prompt in percent of a picture to pixels."""
    box = None
    if prompt.box_xyxy is not None:
        x0, y0, x1, y1 = pct_to_px(np.array([prompt.box_xyxy]), image_wh)[0].tolist()
        box = (x0, y0, x1, y1)
    points = [(x * image_wh[0] / 100, y * image_wh[1] / 100) for x, y in prompt.points_xy]
    return MaskPrompt(box, tuple(points), prompt.points_inside)
