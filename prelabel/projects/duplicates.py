"""Pictures that look alike, found by their perceptual hashes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from prelabel.types import Ints

Hashes = NDArray[np.uint64]

# Copies that were resized or compressed again differ in up to six bits of their pHash, drawings of
# other scenes in ten and more.
MOST_DIFFERENT_BITS: Final = 6
# Of two hashes that differ in up to seven bits, one of four parts differs in at most one bit.
_PARTS, _PART_BITS = 4, 16
_MAX_PAIRS: Final = 4_000_000  # compared at a time: 32 MB for each array


def group_alike(hashes: Hashes) -> list[Ints]:
    """Return the groups of pictures that look alike, as indices, the first picture's group first.

    Two pictures are in a group if their hashes differ in at most six bits, or if pictures between
    them do. Pictures that look like no other are in no group. A million hashes take a minute
    and about 200 MB.

    Args:
        hashes: uint64 [N], the perceptual hash of each picture.
    """
    distinct, inverse = np.unique(hashes, return_inverse=True)
    parents = np.arange(len(distinct))
    for one, other in _alike_pairs(distinct):
        first, second = _root(parents, one), _root(parents, other)
        parents[max(first, second)] = min(first, second)
    roots = np.array([_root(parents, i) for i in range(len(parents))], dtype=np.int64)[inverse]
    order = np.argsort(roots, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(roots[order])) + 1)
    return sorted((group for group in groups if len(group) > 1), key=lambda group: int(group[0]))


def _root(parents: Ints, node: int) -> int:
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = int(parents[node])
    return node


def _alike_pairs(hashes: Hashes) -> Iterator[tuple[int, int]]:
    """Yield pairs of indices of hashes that are near each other."""
    flips = np.array([0, *(1 << np.arange(_PART_BITS))], dtype=np.uint64)
    for part in range(_PARTS):
        values = (hashes >> np.uint64(part * _PART_BITS)) & np.uint64((1 << _PART_BITS) - 1)
        order = np.argsort(values, kind="stable")
        ordered = values[order]
        for flip in flips:
            first = np.searchsorted(ordered, values ^ flip, side="left")
            end = np.searchsorted(ordered, values ^ flip, side="right")
            yield from chain.from_iterable(
                _near(hashes, rows, order, first[rows], end[rows] - first[rows])
                for rows in _blocks(end - first)
            )


def _blocks(counts: Ints) -> Iterator[Ints]:
    """Yield rows in blocks, so that a block has no more pairs than memory allows."""
    rows = np.flatnonzero(counts)
    blocks = np.cumsum(counts[rows]) // _MAX_PAIRS
    yield from np.split(rows, np.flatnonzero(np.diff(blocks)) + 1)


def _near(
    hashes: Hashes, rows: Ints, order: Ints, first: Ints, counts: Ints
) -> Iterator[tuple[int, int]]:
    """Yield the near ones of the pairs of rows[i] with order[first[i] : first[i] + counts[i]]."""
    starts = np.cumsum(counts) - counts
    steps = np.arange(counts.sum()) - np.repeat(starts, counts)
    others = order[np.repeat(first, counts) + steps]
    ones = np.repeat(rows, counts)
    different = np.bitwise_count(hashes[ones] ^ hashes[others])
    is_near = (different <= MOST_DIFFERENT_BITS) & (ones < others)
    return zip(ones[is_near].tolist(), others[is_near].tolist(), strict=True)
