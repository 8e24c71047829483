from itertools import combinations
from typing import Any

import numpy as np
import pytest
from PIL import Image

from prelabel.cli.drawing import DrawnBox, draw_boxes
from prelabel.cli.palette import PALETTE
from prelabel.cli.tags import make_tag, place_tags

GREY = (128, 128, 128)


def changed(boxes: list[DrawnBox], size: tuple[int, int] = (200, 100)) -> Any:
    """Return the mask of the pixels that drawing changes, [H, W]."""
    blank = Image.new("RGB", size, GREY)
    drawn = np.asarray(draw_boxes(blank, boxes))
    assert drawn.shape == (size[1], size[0], 3)
    assert np.asarray(blank).std() == 0, "the picture itself is left alone"
    return (drawn != np.array(GREY)).any(axis=2)


def test_no_boxes_change_nothing() -> None:
    assert not changed([]).any()


def test_a_box_is_drawn_along_its_edges_and_its_inside_left_free() -> None:
    seen = changed([DrawnBox((40, 40, 120, 90), "cat", "cat 0.9")])
    assert seen[60, 40]
    assert seen[60, 120]
    assert seen[90, 80]
    assert not seen[65, 60:110].any()


@pytest.mark.parametrize("corner", [(0, 0, 30, 30), (180, 0, 199, 20), (180, 80, 199, 99)])
def test_the_tag_stays_inside_the_picture(corner: tuple[float, float, float, float]) -> None:
    seen = changed([DrawnBox(corner, "soccer ball", "soccer ball 0.97")])
    assert seen.sum() > 300


@pytest.mark.parametrize("size", [(3, 3), (8, 8), (16, 300), (300, 9), (79, 500)])
def test_a_tiny_picture_is_enlarged_so_that_its_tags_can_be_read(size: tuple[int, int]) -> None:
    mask = np.ones(size[::-1], bool)
    box = DrawnBox((0, 0, size[0] - 1, size[1] - 1), "a long label", "a long label 0.97", mask)
    drawn = draw_boxes(Image.new("RGB", size, GREY), [box])
    scale = drawn.width // size[0]
    assert drawn.size == (size[0] * scale, size[1] * scale)
    assert scale >= 1
    assert max(drawn.size) <= 1600


def test_every_tag_stays_inside_and_hides_no_other_where_there_is_room() -> None:
    boxes = [(300.0 + 3 * i, 200.0 + 3 * i, 400.0 + 3 * i, 260.0 + 3 * i) for i in range(12)]
    boxes += [(0.0, 0.0, 20.0, 20.0), (620.0, 0.0, 639.0, 9.0), (600.0, 470.0, 639.0, 479.0)]
    tags = [make_tag(f"label {i} 0.90", 17, (640, 480)) for i in range(len(boxes))]
    places = [place for place in place_tags(tags, boxes, (640, 480)) if place is not None]
    assert len(places) == len(boxes)
    for left, top, right, bottom in places:
        assert 0 <= left < right <= 640
        assert 0 <= top < bottom <= 480
    for one, other in combinations(places, 2):
        width = min(one[2], other[2]) - max(one[0], other[0])
        height = min(one[3], other[3]) - max(one[1], other[1])
        assert width <= 0 or height <= 0


@pytest.mark.parametrize("width", [12, 40, 100, 299, 640])
def test_a_long_label_is_cut_and_keeps_its_score(width: int) -> None:
    tag = make_tag(f"{'a very long label ' * 9}0.87", 20, (width, 400))
    if tag is None:
        assert width < 30
        return
    assert tag.wh[0] <= width
    assert tag.text.endswith("0.87")


def test_a_picture_without_room_has_no_tags() -> None:
    assert make_tag("cat 0.87", 20, (300, 5)) is None


def test_a_label_looks_the_same_in_all_pictures_of_a_run() -> None:
    labels = ["cat", "dog"]
    blank = Image.new("RGB", (200, 200), GREY)
    dog = DrawnBox((10, 40, 50, 90), "dog", "dog 0.9")
    cat = DrawnBox((100, 40, 150, 90), "cat", "cat 0.9")
    alone = draw_boxes(blank, [dog], labels)
    both = draw_boxes(blank, [dog, cat], labels)
    assert alone.getpixel((10, 80)) == both.getpixel((10, 80)) == PALETTE[1]


def test_labels_beyond_the_palette_have_dashes() -> None:
    labels = [f"label {i}" for i in range(9)]
    box = DrawnBox((40, 40, 160, 160), labels[8], "")
    drawn = draw_boxes(Image.new("RGB", (200, 200), GREY), [box], labels)
    along = {drawn.getpixel((x, 160)) for x in range(40, 160)}
    assert along == {PALETTE[0], (0, 0, 0)}, "the gaps show the casing"


def test_labels_have_colours_of_their_own() -> None:
    boxes = [DrawnBox((10, 40, 50, 90), "a", ""), DrawnBox((100, 40, 150, 90), "b", "")]
    drawn = draw_boxes(Image.new("RGB", (200, 100), GREY), [*boxes, boxes[0]])
    assert drawn.getpixel((10, 60)) != drawn.getpixel((100, 60))


def test_palette_and_grey_pictures_can_be_drawn_on() -> None:
    for mode in ("L", "P"):
        assert draw_boxes(Image.new(mode, (50, 50)), []).mode == "RGB"
