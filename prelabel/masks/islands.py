"""Connected parts of masks, found on runs: small islands are removed, small holes are filled.

Pixels of a mask are connected to all eight neighbours, pixels beside it to four. With this pair of
rules, an outline that closes itself over a corner encloses a hole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prelabel.masks.runs import joined, rows_of_runs
from prelabel.types import Ints, Masks


def cleaned(runs: Ints, image_wh: tuple[int, int], min_island_px: int, min_hole_px: int) -> Ints:
    """Remove small islands, then fill small holes.

    A hole is a connected part of the background that does not reach the border of the picture. Its
    pixels are counted after the islands in it have been removed.

    In the usual case, one island without a hole, the runs return as they are. The case is told from
    the runs, because the signs of the low-resolution logits cannot: the interpolation itself
    creates no island and no hole, as each of its parts contains the centre of a cell, but a neck
    that is narrower than a pixel falls between the pixels' centres and leaves two islands.

    Args:
        runs: [N, 2] of the picture.
        image_wh: Width and height of the picture.
        min_island_px: Islands with fewer pixels are removed, except for the largest.
        min_hole_px: Holes with fewer pixels are filled.
    """
    if not len(runs) or max(min_island_px, min_hole_px) <= 1:
        return runs
    pieces = _Pieces(*rows_of_runs(runs, image_wh[0]))
    above = _neighbours_above(pieces, reach=1)
    links = above.stop - above.first
    if np.count_nonzero(links == 0) == 1 and links.sum() == len(links) - 1:
        return runs  # every piece but one hangs on one piece above: a tree
    label = _labels(above)
    area = _areas(pieces, label)
    large = area >= min_island_px
    large[area.argmax()] = True
    kept = large[label]
    # The pieces of a mask and the links between them form a planar graph, in which each hole of
    # the mask is a face: Euler's formula counts them.
    holes = int(links[kept].sum() - kept.sum() + large.sum())
    pieces = pieces.at(kept)
    if holes and min_hole_px > 1:
        pieces = _filled(pieces, min_hole_px)
    elif kept.all():
        return runs
    return _runs_of_pieces(pieces, image_wh[0])


@dataclass(frozen=True)
class _Pieces:
    """Runs that end with their row, sorted by row and column; [N] each, `stop` is exclusive."""

    row: Ints
    start: Ints
    stop: Ints

    def at(self, index: Ints | Masks) -> _Pieces:
        return _Pieces(self.row[index], self.start[index], self.stop[index])


@dataclass(frozen=True)
class _Neighbours:
    """The pieces in the row above that touch each piece: from `first` up to `stop`, [N] each."""

    first: Ints
    stop: Ints


def _neighbours_above(pieces: _Pieces, reach: int) -> _Neighbours:
    """Find the pieces above. reach: 1 to connect pieces over a corner, 0 to connect over edges."""
    # Numbers that ascend with row and column; rows are so far apart that a corner links no two.
    pitch = int(pieces.stop.max()) + 2
    starts, stops = pieces.row * pitch + pieces.start, pieces.row * pitch + pieces.stop
    return _Neighbours(
        np.searchsorted(stops, starts - pitch - reach, side="right"),
        np.searchsorted(starts, stops - pitch + reach, side="left"),
    )


def _labels(above: _Neighbours) -> Ints:
    """Number the connected parts from 0; return the number of each piece, [N].

    Each piece hangs on the first piece above it. The trees that arise are joined along the other
    links by repeated hooking and shortcutting (Shiloach and Vishkin, 1982).
    """
    links = above.stop - above.first
    root = _shortcut(np.where(links > 0, above.first, np.arange(len(links))))
    others = np.maximum(links - 1, 0)
    behind = np.cumsum(others)
    lower = np.repeat(np.arange(len(links)), others)
    upper = np.arange(behind[-1]) + np.repeat(above.first + 1 - behind + others, others)
    while len(lower):
        a, b = root[lower], root[upper]
        apart = a != b
        lower, upper, a, b = lower[apart], upper[apart], a[apart], b[apart]
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        root = _shortcut(root)
    _, label = np.unique(root, return_inverse=True)
    return label


def _shortcut(parent: Ints) -> Ints:
    """Return the root of each node of a forest, in as many steps as its depth has binary digits."""
    while True:
        grandparent = parent[parent]
        if np.array_equal(grandparent, parent):
            return parent
        parent = grandparent


def _areas(pieces: _Pieces, label: Ints) -> Ints:
    return np.bincount(label, weights=pieces.stop - pieces.start).astype(np.int64)


def _filled(pieces: _Pieces, min_hole_px: int) -> _Pieces:
    """Add the pieces of the holes that have fewer pixels than `min_hole_px`."""
    # A frame around the mask that is one pixel wider on each side: its background has one part
    # that is no hole, and that part begins in the corner.
    left, top = int(pieces.start.min()) - 1, int(pieces.row[0]) - 1
    width, height = int(pieces.stop.max()) + 1 - left, int(pieces.row[-1]) + 2 - top
    base = (pieces.row - top) * width - left
    edges = np.stack((base + pieces.start, base + pieces.stop), axis=1).ravel()
    gaps = np.concatenate(([0], edges, [width * height])).reshape(-1, 2)
    background = _Pieces(*rows_of_runs(gaps, width))
    label = _labels(_neighbours_above(background, reach=0))
    small = _areas(background, label) < min_hole_px
    small[label[0]] = False
    holes = background.at(small[label])
    row = np.concatenate((pieces.row, holes.row + top))
    start = np.concatenate((pieces.start, holes.start + left))
    stop = np.concatenate((pieces.stop, holes.stop + left))
    return _Pieces(row, start, stop).at(np.lexsort((start, row)))


def _runs_of_pieces(pieces: _Pieces, width: int) -> Ints:
    base = pieces.row * width
    return joined(np.stack((base + pieces.start, base + pieces.stop), axis=1))
