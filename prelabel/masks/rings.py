"""Rings with fewer points: simplified by Douglas and Peucker's method, and still simple polygons.

cv2's simplification may let a ring cross itself, which Label Studio and most readers of polygons
take for a fault. Points have whole numbers, so that the tests of crossings are exact.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from prelabel.types import Ints

MOST_POINTS = 200

_RAISE = 1.25  # factor of the tolerance until a ring has few enough points


def simplified_ring(ring: Ints, tolerance: float) -> Ints:
    """Return a ring of some of the points, 3 to 200 of them, that does not cross or touch itself.

    The tolerance is raised until the points are few enough. If the ring then crosses itself, finer
    ones are tried, then coarser ones; the last resort is the convex hull.

    Args:
        ring: [n, 2] x and y, the outline of a set of points as cv2 traces it; not all on one line.
        tolerance: Greatest distance of the ring's points from the result.
    """
    for candidate in _candidates(ring, tolerance):
        if is_simple(candidate):
            return candidate
    hull = cv2.convexHull(ring.astype(np.int32))[:, 0].astype(np.int64)
    return hull[:: -(-len(hull) // MOST_POINTS)]


def is_simple(ring: Ints) -> bool:
    """Return True if a ring of at least three points neither crosses nor touches itself."""
    x, y = ring.T
    dx, dy = np.roll(x, -1) - x, np.roll(y, -1) - y
    if len(ring) < 3 or not (dx | dy).all():
        return False
    # side[i, k]: on which side of segment i point k lies, twice the area of their triangle.
    side = np.outer(dx, y) - np.outer(dy, x) - (dx * y - dy * x)[:, None]
    side = np.sign(side)
    # The ends of segment k are not on one side of the line through segment i.
    straddles = side * np.roll(side, -1, axis=1) <= 0
    meet = straddles & straddles.T
    i, k = np.nonzero(np.triu(meet, 1))
    last = len(ring) - 1
    following = (k == i + 1) | ((i == 0) & (k == last))
    # Segments that follow each other share a point; they share more only if the ring turns back.
    turns_back = (dx * np.roll(dx, -1) + dy * np.roll(dy, -1) < 0) & (
        dx * np.roll(dy, -1) == dy * np.roll(dx, -1)
    )
    if turns_back.any():
        return False
    i, k = i[~following], k[~following]
    # Of segments on one line, and only of those, the boxes decide.
    return not (_boxes_meet(x, dx, i, k) & _boxes_meet(y, dy, i, k)).any()


def _candidates(ring: Ints, tolerance: float) -> Iterator[Ints]:
    candidate = _approximated(ring, tolerance)
    while len(candidate) > MOST_POINTS:
        tolerance = max(tolerance, 0.5) * _RAISE
        candidate = _approximated(ring, tolerance)
    yield candidate
    for finer in (tolerance / 2, tolerance / 4, 0.0):
        candidate = _approximated(ring, finer)
        if len(candidate) <= MOST_POINTS:
            yield candidate
    while len(candidate) >= 3:
        tolerance = max(tolerance, 0.5) * _RAISE
        candidate = _approximated(ring, tolerance)
        yield candidate


def _approximated(ring: Ints, tolerance: float) -> Ints:
    if tolerance == 0:
        return ring
    points = cv2.approxPolyDP(ring.astype(np.int32), tolerance, closed=True)
    return points[:, 0].astype(np.int64)


def _boxes_meet(start: Ints, step: Ints, i: Ints, k: Ints) -> NDArray[np.bool_]:
    low, high = np.minimum(start, start + step), np.maximum(start, start + step)
    meet: NDArray[np.bool_] = (low[i] <= high[k]) & (low[k] <= high[i])
    return meet
