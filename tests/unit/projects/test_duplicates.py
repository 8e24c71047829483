"""Groups of pictures that look alike."""

from __future__ import annotations

import numpy as np
import pytest

from prelabel.projects import duplicates
from prelabel.projects.duplicates import MOST_DIFFERENT_BITS, Hashes, group_alike


def random_hashes(count: int, seed: int = 0) -> Hashes:
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


def flipped(value: int, bits: tuple[int, ...]) -> int:
    for bit in bits:
        value ^= 1 << bit
    return value


def groups(hashes: Hashes) -> list[list[int]]:
    return [group.tolist() for group in group_alike(hashes)]


def test_different_pictures_are_in_no_group() -> None:
    assert groups(random_hashes(0)) == []
    assert groups(random_hashes(1)) == []
    assert groups(random_hashes(1_000)) == []


def test_the_same_hash_is_a_group_in_the_order_of_the_pictures() -> None:
    one, two, three = random_hashes(3).tolist()
    hashes = np.array([one, two, one, three, two, one], np.uint64)
    assert groups(hashes) == [[0, 2, 5], [1, 4]]


@pytest.mark.parametrize("count", range(MOST_DIFFERENT_BITS + 1))
def test_near_hashes_are_found_wherever_they_differ(count: int) -> None:
    rng = np.random.default_rng(count)
    for number in range(50):
        hashes = random_hashes(20, number)
        bits = tuple(rng.choice(64, count, replace=False).tolist())
        hashes[13] = flipped(int(hashes[4]), bits)
        assert groups(hashes) == [[4, 13]]


def test_hashes_that_differ_more_are_no_group() -> None:
    hashes = random_hashes(20)
    hashes[13] = flipped(int(hashes[4]), tuple(range(0, 64, 64 // (MOST_DIFFERENT_BITS + 1))))
    assert groups(hashes) == []


def test_pictures_between_them_join_a_group() -> None:
    hashes = random_hashes(20)
    hashes[9] = flipped(int(hashes[2]), (0, 20, 40, 60))
    hashes[5] = flipped(int(hashes[9]), (1, 21, 41, 61))
    assert groups(hashes) == [[2, 5, 9]]


def test_it_finds_what_comparing_all_pairs_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_MAX_PAIRS", 100)  # so that there are many blocks
    rng = np.random.default_rng(3)
    base = random_hashes(60, 3)
    hashes = base[rng.integers(0, 60, 400)]
    for i in range(len(hashes)):
        count = int(rng.integers(0, 5))
        hashes[i] = flipped(int(hashes[i]), tuple(rng.choice(64, count, replace=False).tolist()))
    near = np.bitwise_count(hashes[:, None] ^ hashes[None, :]) <= MOST_DIFFERENT_BITS
    expected: list[list[int]] = []
    left = set(range(len(hashes)))
    while left:
        group, front = set[int](), [min(left)]
        while front:
            node = front.pop()
            group.add(node)
            front += [int(i) for i in np.flatnonzero(near[node]) if i not in group]
        left -= group
        if len(group) > 1:
            expected.append(sorted(group))
    assert groups(hashes) == expected
