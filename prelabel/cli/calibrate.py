"""What a batch costs here, and which batch size that makes worth while."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prelabel.engines.base import USUAL_PICTURES_HW, AnyEngine
from prelabel.errors import DetectionError

BATCH_SIZES = (1, 2, 4, 8, 16, 32)
_PHRASES = ("person", "car", "traffic light")
_MOST_S = 4.0  # that the next larger batch may be expected to take
_ROUNDS_S = 0.6  # for the rounds of one size
_MOST_ROUNDS = 5
_WORTH = 0.9  # of the throughput that no batch size exceeds
_IN_WORK_AND_WAITING = 1.5  # batches that a replica should have: one runs, the next gathers


@dataclass(frozen=True, slots=True)
class BatchCost:
    """A batch of n pictures takes base_s + item_s * n seconds."""

    base_s: float
    item_s: float

    def seconds(self, pictures: int) -> float:
        """Of a batch."""
        return self.base_s + self.item_s * pictures

    def per_s(self, pictures: int) -> float:
        """Pictures per second, in batches of so many."""
        return pictures / self.seconds(pictures)


@dataclass(frozen=True, slots=True)
class Bucket:
    """Pictures that are resized to one size, and the batches of them that were measured."""

    picture_hw: tuple[int, int]
    resized_hw: tuple[int, int]
    seconds: Mapping[int, float]

    @property
    def cost(self) -> BatchCost:
        """The line through the measured batches, each weighed by its time: relative errors count
        alike.
        """
        if len(self.seconds) == 1:
            [(pictures, seconds)] = self.seconds.items()
            return BatchCost(0.0, seconds / pictures)
        pictures, took = np.array(list(self.seconds.items())).T
        item_s, base_s = np.polyfit(pictures, took, 1, w=1 / took)
        if base_s < 0:  # larger batches are dearer per picture
            return BatchCost(0.0, float(np.mean(took / pictures)))
        return BatchCost(float(base_s), float(item_s))


@dataclass(frozen=True, slots=True)
class Proposal:
    """For serve_config.yaml."""

    max_batch_size: int
    target_ongoing_requests: int


def measure(engine: AnyEngine, sizes: Sequence[int] = BATCH_SIZES) -> Iterator[Bucket]:
    """Each size of the usual pictures. Larger batches than fit the device, or take many seconds,
    are left out.
    """
    seen = set()
    for hw in USUAL_PICTURES_HW:
        picture = np.random.default_rng(0).integers(0, 256, (*hw, 3), dtype=np.uint8)
        [item] = engine.prepare(picture, _PHRASES)
        if item.bucket not in seen:
            seen.add(item.bucket)
            yield Bucket(hw, item.bucket, _batches(engine, item, sizes))


def _batches(engine: AnyEngine, item: Any, sizes: Sequence[int]) -> dict[int, float]:
    engine.detect([item])  # the first one of a size is slower
    found: dict[int, float] = {}
    for size in sizes:
        if found and max(found.values()) * size / max(found) > _MOST_S and len(found) > 1:
            break
        try:
            found[size] = _median_s(engine, [item] * size)
        except DetectionError:
            if not found:
                raise
            break
    return found


def _median_s(engine: AnyEngine, items: Sequence[Any]) -> float:
    taken: list[float] = []
    while len(taken) < _MOST_ROUNDS and sum(taken) < _ROUNDS_S:
        began = time.perf_counter()
        engine.detect(items)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def propose(buckets: Sequence[Bucket], max_batch_s: float) -> Proposal:
    """The smallest batch that reaches nine tenths of what no batch exceeds, for every bucket, as
    far as it takes at most max_batch_s and was measured.

    From n / (a + b n) >= 0.9 / b follows n >= 9 a / b. More pictures at a time gain less than a
    tenth, and everybody waits longer for his batch.
    """
    size = max(min(_worth_while(b.cost), _allowed(b, max_batch_s)) for b in buckets)
    return Proposal(size, max(2, math.ceil(_IN_WORK_AND_WAITING * size)))


def _worth_while(cost: BatchCost) -> int:
    return max(1, math.ceil(_WORTH / (1 - _WORTH) * cost.base_s / cost.item_s - 1e-9))


def _allowed(bucket: Bucket, max_batch_s: float) -> int:
    in_time = int((max_batch_s - bucket.cost.base_s) / bucket.cost.item_s + 1e-9)
    return max(1, min(in_time, max(bucket.seconds)))
