"""Large pictures with small objects: looked at as a whole, and in tiles that overlap.

A model reads a picture at a fixed size; what is a few pixels wide then is not seen. In a tile it is
larger. What reaches over the edge of a tile is whole in its neighbour if it is no larger than their
overlap, and is seen on the whole picture otherwise; so what touches such an edge is a part of an
object, and is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from prelabel.boxes import best_of_rivals
from prelabel.types import Detections, Floats, Ints

_AT_THE_EDGE = 0.01  # of a tile's side: closer than this is cut off
_SAME_OBJECT = 0.5  # overlap of the boxes that two tiles, or a tile and the whole, have of it
_LARGER = 1.1


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of a picture, in its pixels; right and bottom are one beyond the last."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def wh(self) -> tuple[int, int]:
        """Width and height."""
        return self.right - self.left, self.bottom - self.top


@dataclass(frozen=True, slots=True)
class Tiling:
    """How pictures are cut: see the settings tile_size (0: not at all), tile_overlap, max_tiles."""

    size: int
    overlap: float
    max_tiles: int

    def views(self, image_wh: tuple[int, int]) -> tuple[Tile, ...]:
        """The whole picture, and its tiles where it is larger than one."""
        whole = Tile(0, 0, *image_wh)
        if not self.size or max(image_wh) <= self.size:
            return (whole,)
        size = float(self.size)
        while _count(image_wh, size, self.overlap) > self.max_tiles:
            size *= _LARGER
        tiles = tuple(_tiles(image_wh, size, self.overlap))
        return (whole, *tiles) if len(tiles) > 1 else (whole,)


def merge_views(views: Sequence[tuple[Tile, Detections]], most: int) -> Detections:
    """What was found on the whole picture, which is the first view, and in its tiles.

    Boxes come in pixels of their view and leave in pixels of the picture, best first, of one object
    the best one. Two boxes of one view are never taken for the same object: that is for the usual
    suppression. most: so many boxes, the best, are looked at.
    """
    whole = views[0][0]
    if len(views) == 1:
        return views[0][1]
    boxes, scores, phrases, origins = [], [], [], []
    for number, (tile, found) in enumerate(views):
        keep = ~_cut_off(found.boxes_xyxy, tile, whole)
        boxes.append(found.boxes_xyxy[keep] + np.array([tile.left, tile.top] * 2, np.float32))
        scores.append(found.scores[keep])
        phrases.append(found.phrase_index[keep])
        origins.append(np.full(keep.sum(), number, dtype=np.int64))
    order = np.argsort(-np.concatenate(scores), kind="stable")[:most]
    merged = Detections(
        boxes_xyxy=np.concatenate(boxes)[order],
        scores=np.concatenate(scores)[order],
        phrase_index=np.concatenate(phrases)[order],
        image_wh=whole.wh,
    )
    kept = _one_of_each(merged, np.concatenate(origins)[order])
    return replace(
        merged,
        boxes_xyxy=merged.boxes_xyxy[kept],
        scores=merged.scores[kept],
        phrase_index=merged.phrase_index[kept],
    )


def _count(image_wh: tuple[int, int], size: float, overlap: float) -> int:
    columns, rows = (_along(length, size, overlap) for length in image_wh)
    return columns * rows


def _along(length: int, size: float, overlap: float) -> int:
    """How many tiles lie beside each other along a side.

    They have a little more than the overlap in common: close to an edge counts as cut off.
    """
    common = size * (overlap + 2 * _AT_THE_EDGE)
    return max(1, math.ceil((length - common) / (size - common)))


def _tiles(image_wh: tuple[int, int], size: float, overlap: float) -> Iterator[Tile]:
    spans_x, spans_y = (_spans(length, size, overlap) for length in image_wh)
    for top, bottom in spans_y:
        for left, right in spans_x:
            yield Tile(left, top, right, bottom)


def _spans(length: int, size: float, overlap: float) -> list[tuple[int, int]]:
    """Tiles of equal size and distance along a side, the last one ending with it."""
    count, side = _along(length, size, overlap), min(length, math.ceil(size))
    step = (length - side) / max(1, count - 1)
    return [(round(i * step), round(i * step) + side) for i in range(count)]


def _cut_off(boxes_xyxy: Floats, tile: Tile, whole: Tile) -> NDArray[np.bool_]:
    """Which boxes reach an edge of the tile behind which the picture goes on."""
    width, height = tile.wh
    x, y = width * _AT_THE_EDGE, height * _AT_THE_EDGE
    left, top, right, bottom = boxes_xyxy.T
    cut = np.zeros(len(boxes_xyxy), dtype=bool)
    if tile.left > whole.left:
        cut |= left < x
    if tile.top > whole.top:
        cut |= top < y
    if tile.right < whole.right:
        cut |= right > width - x
    if tile.bottom < whole.bottom:
        cut |= bottom > height - y
    return cut


def _one_of_each(found: Detections, origins: Ints) -> Ints:
    """Of the boxes, best first, that several views have of one object, the best."""
    phrases = found.phrase_index

    def of_two_views(some: slice, others: slice) -> NDArray[np.bool_]:
        pairs: NDArray[np.bool_] = phrases[some, None] == phrases[None, others]
        pairs &= origins[some, None] != origins[None, others]
        return pairs

    return best_of_rivals(found.boxes_xyxy, _SAME_OBJECT, of_two_views, len(origins))
