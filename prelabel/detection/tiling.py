"""Tiling: detection of small objects in large pictures, on the whole picture and on its tiles.

The model reads a picture at a fixed size, in which an object of a few pixels is lost. In a tile the
object is larger. Tiles overlap: an object that crosses the edge of a tile is whole in the next tile
if it is no larger than the overlap, and is found on the whole picture if it is larger. So a box
that touches an inner edge of a tile covers only a part of an object, and is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from prelabel.boxes import best_of_rivals
from prelabel.settings import DetectionSettings
from prelabel.types import Detections, Floats, Ints

_EDGE_MARGIN = 0.01  # of a tile's side: a box that ends closer to the edge counts as cut off
_SAME_OBJECT_IOU = 0.5  # from this overlap on, boxes of different views are the same object
_SIZE_STEP = 1.1  # factor by which tiles grow until a picture has no more than `max_tiles`


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of a picture in pixels. Right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.right - self.left, self.bottom - self.top

    def within(self, frame: Tile) -> Tile:
        """Return the same rectangle in pixels from another one's top left corner."""
        return Tile(
            self.left - frame.left,
            self.top - frame.top,
            self.right - frame.left,
            self.bottom - frame.top,
        )


@dataclass(frozen=True, slots=True)
class Tiling:
    """The rule by which pictures are cut into tiles.

    Attributes:
        size: Side of a tile in pixels; 0 turns tiling off (`detection.tile_size`).
        overlap: Share of a tile's side that it has in common with the next one
            (`detection.tile_overlap`).
        max_tiles: Most tiles of a picture; larger pictures get larger tiles
            (`detection.max_tiles`).
    """

    size: int
    overlap: float
    max_tiles: int

    @classmethod
    def of(cls, settings: DetectionSettings) -> Self:
        """Return the rule that the settings give."""
        return cls(settings.tile_size, settings.tile_overlap, settings.max_tiles)

    def views(self, image_wh: tuple[int, int]) -> tuple[Tile, ...]:
        """Return the whole picture as the first view, then its tiles if it is larger than one."""
        whole = Tile(0, 0, *image_wh)
        if not self.size or max(image_wh) <= self.size:
            return (whole,)
        size = float(self.size)
        while _tile_count(image_wh, size, self.overlap) > self.max_tiles:
            size *= _SIZE_STEP
        tiles = tuple(_tiles(image_wh, size, self.overlap))
        # A single tile would be the whole picture again.
        return (whole, *tiles) if len(tiles) > 1 else (whole,)


def merge_views(views: Sequence[tuple[Tile, Detections]], max_boxes: int) -> Detections:
    """Merge the detections of all views into those of the picture, best score first.

    Of the boxes that several views have of one object, the best stays. Two boxes of the same view
    are never compared: that is left to the usual suppression.

    Args:
        views: As for `stack_views`.
        max_boxes: Number of boxes that are compared, the best ones; others are dropped.
    """
    stacked = stack_views(views, max_boxes)
    if stacked.view_index is None:
        return stacked
    selected = _best_of_each_object(stacked, stacked.view_index)
    return replace(stacked.take(selected), view_index=None)


def stack_views(views: Sequence[tuple[Tile, Detections]], max_boxes: int) -> Detections:
    """Return the detections of all views in pixels of the picture, best score first.

    Boxes that an inner edge of a tile cuts off are dropped. Each box of a tiled picture has the
    number of its view.

    Args:
        views: Each view with its detections, whose boxes are in pixels of the view; the first one
            is the whole picture.
        max_boxes: The most boxes of a tiled picture, the best ones.
    """
    whole = views[0][0]
    if len(views) == 1:
        return views[0][1]
    rows = [
        np.flatnonzero(~_cut_off(detections.boxes_xyxy, tile, whole)) for tile, detections in views
    ]
    kept = [found.take(own) for own, (_, found) in zip(rows, views, strict=True)]
    origins = [np.array([tile.left, tile.top] * 2, np.float32) for tile, _ in views]
    scores = np.concatenate([each.scores for each in kept])
    text_scores = [each.text_scores for each in kept if each.text_scores is not None]
    stacked = Detections(
        boxes_xyxy=np.concatenate(
            [each.boxes_xyxy + origin for each, origin in zip(kept, origins, strict=True)]
        ),
        scores=scores,
        phrase_index=np.concatenate([each.phrase_index for each in kept]),
        image_wh=whole.wh,
        text_scores=np.concatenate(text_scores) if len(text_scores) == len(kept) else None,
        view_index=np.repeat(np.arange(len(kept)), [len(own) for own in rows]),
    )
    return stacked.take(np.argsort(-scores, kind="stable")[:max_boxes])


def _tile_count(image_wh: tuple[int, int], size: float, overlap: float) -> int:
    columns, rows = (_tiles_along(length, size, overlap) for length in image_wh)
    return columns * rows


def _tiles_along(length: int, size: float, overlap: float) -> int:
    """Return the number of tiles along a side of `length` pixels.

    Neighbours share the overlap and two edge margins: a box in the margin counts as cut off, and an
    object of the overlap's size must still be whole in one of the two tiles.
    """
    common = size * (overlap + 2 * _EDGE_MARGIN)
    return max(1, math.ceil((length - common) / (size - common)))


def _tiles(image_wh: tuple[int, int], size: float, overlap: float) -> Iterator[Tile]:
    spans_x, spans_y = (_spans(length, size, overlap) for length in image_wh)
    for top, bottom in spans_y:
        for left, right in spans_x:
            yield Tile(left, top, right, bottom)


def _spans(length: int, size: float, overlap: float) -> list[tuple[int, int]]:
    """Return [start, end) of tiles of equal size and distance along a side."""
    count, side = _tiles_along(length, size, overlap), min(length, math.ceil(size))
    step = (length - side) / max(1, count - 1)  # the last tile ends with the side
    return [(round(i * step), round(i * step) + side) for i in range(count)]


def _cut_off(boxes_xyxy: Floats, tile: Tile, whole: Tile) -> NDArray[np.bool_]:
    """Return a mask of the boxes that touch an edge of the tile that is not one of the picture."""
    width, height = tile.wh
    margin_x, margin_y = width * _EDGE_MARGIN, height * _EDGE_MARGIN
    left, top, right, bottom = boxes_xyxy.T
    cut = np.zeros(len(boxes_xyxy), dtype=bool)
    if tile.left > whole.left:
        cut |= left < margin_x
    if tile.top > whole.top:
        cut |= top < margin_y
    if tile.right < whole.right:
        cut |= right > width - margin_x
    if tile.bottom < whole.bottom:
        cut |= bottom > height - margin_y
    return cut


def _best_of_each_object(detections: Detections, view_numbers: Ints) -> Ints:
    """Return indices of the boxes, sorted by score, without duplicates from other views."""
    phrases = detections.phrase_index

    def from_different_views(block: slice, rest: slice) -> NDArray[np.bool_]:
        pairs: NDArray[np.bool_] = phrases[block, None] == phrases[None, rest]
        pairs &= view_numbers[block, None] != view_numbers[None, rest]
        return pairs

    return best_of_rivals(
        detections.boxes_xyxy, _SAME_OBJECT_IOU, from_different_views, len(view_numbers)
    )
