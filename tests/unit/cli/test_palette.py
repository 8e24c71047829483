"""Labels can be told apart, with and without colour blindness."""

from __future__ import annotations

import numpy as np
import pytest

from prelabel.cli.palette import PALETTE, PATTERNS, contrast_ratio, strokes
from tests.support.colour_vision import VISION, ciede2000, least_distance, to_lab

OKABE_ITO = [
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (0, 0, 0),
]


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
        ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_distances_are_those_of_the_published_table(
    one: tuple[float, ...], other: tuple[float, ...], distance: float
) -> None:
    assert ciede2000(np.array(one), np.array(other)) == pytest.approx(distance, abs=1e-4)


def test_white_and_grey_look_the_same_to_everyone() -> None:
    for vision in VISION:
        lab = to_lab([(255, 255, 255), (119, 119, 119)], vision)
        assert lab[0] == pytest.approx([100, 0, 0], abs=0.1)
        assert lab[1][1:] == pytest.approx([0, 0], abs=0.1)


def test_eight_labels_are_farther_apart_than_the_usual_palette_for_colour_blindness() -> None:
    assert len(set(PALETTE)) == 8
    assert least_distance(PALETTE) > 19.9
    assert least_distance(OKABE_ITO) == pytest.approx(10.9, abs=0.1)


@pytest.mark.parametrize(("count", "distance"), [(2, 52), (3, 33), (4, 30)])
def test_few_labels_are_the_farthest_apart(count: int, distance: float) -> None:
    assert least_distance(PALETTE[:count]) > distance


def test_text_on_every_colour_can_be_read() -> None:
    for stroke in strokes(map(str, range(8))).values():
        assert contrast_ratio(stroke.colour, stroke.contrast) >= 4.5


def test_more_labels_get_patterns() -> None:
    found = list(strokes(map(str, range(32))).values())
    assert len(set(found)) == 32
    assert {stroke.pattern for stroke in found} == set(PATTERNS)
    assert all(not stroke.pattern for stroke in found[:8])


def test_a_label_keeps_its_stroke_when_others_follow() -> None:
    few, many = strokes(["cat", "dog"]), strokes(["cat", "dog", "cat", "bird"])
    assert few.items() <= many.items()
