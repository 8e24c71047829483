import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from prelabel.cli.calibrate import BatchCost, Bucket, Proposal, measure, propose
from prelabel.errors import DetectionError
from prelabel.types import ImageRGB, RawDetections

HALF_A_SECOND = 0.5


@dataclass(frozen=True)
class Item:
    bucket: tuple[int, int]


class Engine:
    """Takes 20 + 10 n ms of a simulated clock, and holds at most `most` pictures."""

    def __init__(self, most: int = 8) -> None:
        self.most = most
        self.now_s = 0.0

    def resized_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        return image_hw

    def prepare(self, image: ImageRGB, phrases: Sequence[str]) -> list[Item]:
        assert phrases
        return [Item((100, 100 * round(image.shape[1] / image.shape[0])))]

    def detect(self, items: Sequence[Item]) -> list[RawDetections]:
        if len(items) > self.most:
            raise DetectionError("does not fit")
        self.now_s += 0.020 + 0.010 * len(items)
        empty = np.zeros((0, 4), np.float32)
        return [RawDetections(empty, empty, empty, 0)] * len(items)


def bucket(base_s: float, item_s: float, sizes: tuple[Any, ...] = (1, 2, 4, 8, 16, 32)) -> Bucket:
    cost = BatchCost(base_s, item_s)
    return Bucket((480, 640), (112, 149), {size: cost.seconds(size) for size in sizes})


def test_what_a_batch_costs_is_measured_up_to_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(most=4)
    monkeypatch.setattr(time, "perf_counter", lambda: engine.now_s)
    found = list(measure(engine, (1, 2, 4, 8)))
    assert [each.resized_hw for each in found] == [(100, 100), (100, 200)]
    for each in found:
        assert set(each.seconds) == {1, 2, 4}
        assert each.cost.base_s == pytest.approx(0.020)
        assert each.cost.item_s == pytest.approx(0.010)


def test_small_batches_that_another_program_slowed_down_give_no_negative_cost() -> None:
    cost = Bucket((480, 640), (112, 149), {1: 8.3, 2: 6.3}).cost
    assert (cost.base_s, cost.item_s) == (0.0, 3.15)


def test_a_model_that_does_not_run_says_why() -> None:
    with pytest.raises(DetectionError):
        list(measure(Engine(most=0)))


@pytest.mark.parametrize(
    ("base_s", "item_s", "size"),
    [
        (0.010, 0.030, 3),  # 9 a / b
        (0.040, 0.010, 32),  # 36 would be, and were not measured
        (0.100, 0.100, 4),  # 9 would be, and would take a second
        (0.0, 1.1, 1),  # nothing to gain
        (0.9, 0.1, 1),  # not one fits half a second
    ],
)
def test_the_smallest_batch_is_proposed_that_gains_most(
    base_s: float, item_s: float, size: int
) -> None:
    wanted = Proposal(size, max(2, -(-3 * size // 2)))
    assert propose([bucket(base_s, item_s)], HALF_A_SECOND) == wanted


def test_the_costs_are_found_again() -> None:
    cost = bucket(0.03, 0.02).cost
    assert (cost.base_s, cost.item_s) == pytest.approx((0.03, 0.02))
    assert cost.per_s(3) == pytest.approx(3 / 0.09)


@pytest.mark.parametrize("sizes", [(1,), (2,)])
def test_one_measured_batch_is_enough(sizes: tuple[int]) -> None:
    cost = bucket(0.0, 0.7, sizes).cost
    assert cost.base_s == 0
    assert cost.item_s == pytest.approx(0.7)


def test_batches_that_get_dearer_per_picture_have_no_base() -> None:
    dear = Bucket((480, 640), (112, 149), {1: 1.0, 2: 2.2, 4: 4.8})
    assert dear.cost.base_s == 0
    assert propose([dear], HALF_A_SECOND).max_batch_size == 1
