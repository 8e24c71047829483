import math

import numpy as np
import pytest

from prelabel.types import Detections
from training.evaluate import Tally, correct_boxes
from training.scenes import Scene


def scene(boxes: list[list[float]], labels: list[int]) -> Scene:
    return Scene(
        np.zeros((100, 100, 3), np.uint8),
        ("cat", "dog"),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.zeros((0, 100, 100), bool),
    )


def found(*boxes: tuple[list[float], int]) -> Detections:
    return Detections(
        np.array([box for box, _ in boxes], np.float32).reshape(-1, 4),
        np.linspace(0.9, 0.5, len(boxes)),
        np.array([phrase for _, phrase in boxes], np.int64),
        (100, 100),
    )


CAT: list[float]
DOG: list[float]
CAT, DOG = [10, 10, 40, 40], [60, 60, 90, 90]


def test_a_box_is_right_once_and_with_the_right_phrase() -> None:
    drawn = scene([CAT, DOG], [0, 1])
    assert correct_boxes(found((CAT, 0), (DOG, 1)), drawn) == [True, True]
    assert correct_boxes(found((CAT, 1), (DOG, 0)), drawn) == [False, False]
    assert correct_boxes(found((CAT, 0), (CAT, 0)), drawn) == [True, False]
    assert correct_boxes(found(([10, 10, 40, 24], 0)), drawn) == [False]  # IoU below 0.5
    assert correct_boxes(found((CAT, 0)), scene([], [])) == [False]
    assert correct_boxes(found(), drawn) == []


def test_twins_are_two_objects() -> None:
    drawn = scene([CAT, DOG], [0, 0])
    assert correct_boxes(found((DOG, 0), (CAT, 0)), drawn) == [True, True]


def test_average_precision_is_the_area_under_the_envelope() -> None:
    perfect = Tally(objects=2, scenes=1, matches=[(0.9, True), (0.8, True)])
    assert perfect.ap50 == 1
    late = Tally(objects=2, scenes=1, matches=[(0.7, True), (0.9, False), (0.8, True)])
    # Ranked: wrong, right (1/2), right (2/3); the envelope lifts the first to 2/3.
    assert late.ap50 == pytest.approx(2 / 3)
    missed = Tally(objects=4, scenes=1, matches=[(0.9, True)])
    assert missed.ap50 == pytest.approx(1 / 4)
    assert math.isnan(Tally(scenes=3, false_boxes=1).ap50)
    assert Tally(scenes=4, false_boxes=1).figures()["false_boxes"] == 0.25
