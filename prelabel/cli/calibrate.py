"""`prelabel calibrate`: measures the cost of batches or of masks, and proposes a batch size."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from prelabel.detection.batching import MAX_BATCH_S
from prelabel.engines.base import USUAL_PICTURES_HW, AnyEngine, SegmenterEngine
from prelabel.errors import DetectionError
from prelabel.types import MaskPrompt

BATCH_SIZES = (1, 2, 4, 8, 16, 32)
_PHRASES = ("person", "car", "traffic light")
_MAX_EXPECTED_S = 4.0  # a batch size that is expected to take longer is not measured
_ROUNDS_S = 0.6  # time budget of the rounds of one batch size
_MAX_ROUNDS = 5
_THROUGHPUT_SHARE = 0.9  # of the throughput that no batch size exceeds
_BATCHES_PER_REPLICA = 1.5  # one batch runs while the next is collected
_ROUNDING = 1e-9  # keeps exact quotients from being rounded to the next integer


Observe = Callable[[str], None]  # receives what is being measured, in a few words


def _observe_nothing(_step: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class BatchCost:
    """Linear cost model: a batch of n pictures takes base_s + item_s * n seconds."""

    base_s: float
    item_s: float

    def seconds(self, pictures: int) -> float:
        """Return the seconds that a batch takes."""
        return self.base_s + self.item_s * pictures

    def per_s(self, pictures: int) -> float:
        """Return the throughput in pictures per second with batches of that size."""
        return pictures / self.seconds(pictures)


@dataclass(frozen=True, slots=True)
class Bucket:
    """Measurements of pictures that are resized to the same size.

    Attributes:
        picture_hw: Height and width of the picture, pixels.
        resized_hw: Height and width at the model's input, pixels.
        seconds: Median time of a batch, by batch size.
    """

    picture_hw: tuple[int, int]
    resized_hw: tuple[int, int]
    seconds: Mapping[int, float]

    @property
    def cost(self) -> BatchCost:
        """Cost model fitted to the measurements.

        Each measurement is weighted by 1 / seconds, so that relative errors count equally.
        """
        if len(self.seconds) == 1:
            [(pictures, seconds)] = self.seconds.items()
            return BatchCost(0.0, seconds / pictures)
        pictures, taken_s = np.array(list(self.seconds.items())).T
        item_s, base_s = np.polyfit(pictures, taken_s, 1, w=1 / taken_s)
        if base_s < 0:  # a picture costs more in a larger batch
            return BatchCost(0.0, float(np.mean(taken_s / pictures)))
        if item_s <= 0:  # another program slowed the small batches down
            return BatchCost(0.0, float(np.min(taken_s / pictures)))
        return BatchCost(float(base_s), float(item_s))


@dataclass(frozen=True, slots=True)
class Proposal:
    """Proposed values for serve_config.yaml."""

    max_batch_size: int
    target_ongoing_requests: int


@dataclass(frozen=True, slots=True)
class Measured:
    """A part of a report.

    Attributes:
        paragraph: The part in words.
        facts: The same for a program, to be merged with those of the other parts.
    """

    paragraph: str
    facts: Mapping[str, object]


def report(engine: AnyEngine, observe: Observe = _observe_nothing) -> Iterator[Measured]:
    """Measure an engine and yield the parts of the report as they become known."""
    buckets: list[Bucket] = []
    for bucket in measure(engine, observe=observe):
        buckets.append(bucket)
        largest, cost = max(bucket.seconds), bucket.cost
        yield Measured(
            f"{_wh(bucket.picture_hw)} as {_wh(bucket.resized_hw)}: a batch of n takes "
            f"{cost.base_s * 1000:.0f} + {cost.item_s * 1000:.0f} n ms: {cost.per_s(1):.1f} "
            f"pictures/s one by one, {cost.per_s(largest):.1f} in batches of {largest}.",
            {"pictures": [_facts(each) for each in buckets]},
        )
    proposal = propose(buckets, MAX_BATCH_S)
    yield Measured(
        "For serve_config.yaml, if nothing else ran on this machine during the measurement:\n"
        f"  args: detection: {{max_batch_size: {proposal.max_batch_size}}}\n"
        "  Detector, autoscaling_config: "
        f"target_ongoing_requests: {proposal.target_ongoing_requests}",
        {"proposal": asdict(proposal)},
    )


def _facts(bucket: Bucket) -> dict[str, object]:
    return {
        "picture_wh": bucket.picture_hw[::-1],
        "resized_wh": bucket.resized_hw[::-1],
        "seconds_by_batch_size": bucket.seconds,
        "base_s": bucket.cost.base_s,
        "item_s": bucket.cost.item_s,
    }


def measure(
    engine: AnyEngine,
    sizes: Sequence[int] = BATCH_SIZES,
    observe: Observe = _observe_nothing,
) -> Iterator[Bucket]:
    """Measure batches of every usual picture size.

    Batch sizes that do not fit the device's memory or would take many seconds are left out.
    """
    seen = set()
    for hw in USUAL_PICTURES_HW:
        picture = np.random.default_rng(0).integers(0, 256, (*hw, 3), dtype=np.uint8)
        [item] = engine.prepare(picture, _PHRASES)
        if item.bucket not in seen:
            seen.add(item.bucket)
            yield Bucket(hw, item.bucket, _measure_batches(engine, item, sizes, observe))


def report_segmenter(
    engine: SegmenterEngine, observe: Observe = _observe_nothing
) -> Iterator[Measured]:
    """Measure a segmenter and yield the parts of the report as they become known."""
    observe("the encoder")
    height, width = USUAL_PICTURES_HW[0]
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    item = engine.prepare(picture)
    [encoding] = engine.encode([item])  # the first pass is slower
    seconds = _median_s(partial(engine.encode, [item]))
    yield Measured(
        f"A picture takes {seconds * 1000:.0f} ms to encode, and {encoding.nbytes / 1e6:.1f} MB in "
        "the cache of encodings.",
        {"encode_s": seconds, "encoding_bytes": encoding.nbytes},
    )
    box = MaskPrompt(
        box_xyxy=(0.3 * width, 0.3 * height, 0.6 * width, 0.7 * height),
        clip_xyxy=(0.28 * width, 0.28 * height, 0.62 * width, 0.72 * height),
    )
    click = MaskPrompt(None, ((0.5 * width, 0.5 * height),), (True,))
    for title, key, prompts in (
        ("A box takes", "box_s", [box]),
        ("Twenty boxes take", "twenty_boxes_s", [box] * 20),
        ("A click takes", "click_s", [click]),
    ):
        observe("the decoder")
        seconds = _median_s(partial(engine.decode, [(encoding, prompts)]))
        yield Measured(f"{title} {seconds * 1000:.0f} ms.", {key: seconds})


def _measure_batches(
    engine: AnyEngine, item: Any, sizes: Sequence[int], observe: Observe
) -> dict[int, float]:
    engine.detect([item])  # the first pass of a size is slower
    seconds: dict[int, float] = {}
    for size in sizes:
        if len(seconds) > 1 and max(seconds.values()) * size / max(seconds) > _MAX_EXPECTED_S:
            break
        observe(f"{_wh(item.bucket)}, batches of {size}")
        try:
            seconds[size] = _median_s(partial(engine.detect, [item] * size))
        except DetectionError:  # out of memory
            if not seconds:
                raise
            break
    return seconds


def _median_s(work: Callable[[], object]) -> float:
    rounds_s: list[float] = []
    while len(rounds_s) < _MAX_ROUNDS and sum(rounds_s) < _ROUNDS_S:
        started_at = time.perf_counter()
        work()
        rounds_s.append(time.perf_counter() - started_at)
    return statistics.median(rounds_s)


def propose(buckets: Sequence[Bucket], max_batch_s: float) -> Proposal:
    """Return the smallest batch size that reaches 90 % of the throughput limit in every bucket.

    The throughput of batches of n is n / (a + b n), its limit 1 / b. n / (a + b n) >= 0.9 / b gives
    n >= 9 a / b. A larger batch gains less than a tenth and adds latency for every picture in it.
    The size is capped at the measured sizes and at `max_batch_s` seconds a batch.
    """
    size = max(min(_sufficient(b.cost), _permitted(b, max_batch_s)) for b in buckets)
    return Proposal(size, max(2, math.ceil(_BATCHES_PER_REPLICA * size)))


def _sufficient(cost: BatchCost) -> int:
    odds = _THROUGHPUT_SHARE / (1 - _THROUGHPUT_SHARE)
    return max(1, math.ceil(odds * cost.base_s / cost.item_s - _ROUNDING))


def _permitted(bucket: Bucket, max_batch_s: float) -> int:
    in_time = int((max_batch_s - bucket.cost.base_s) / bucket.cost.item_s + _ROUNDING)
    return max(1, min(in_time, max(bucket.seconds)))


def _wh(hw: tuple[int, int]) -> str:
    return f"{hw[1]}x{hw[0]}"
