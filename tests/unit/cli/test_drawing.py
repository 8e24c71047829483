from typing import Any

import numpy as np
import pytest
from PIL import Image

from prelabel.cli.drawing import DrawnBox, draw_boxes

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


def test_labels_have_colours_of_their_own() -> None:
    boxes = [DrawnBox((10, 40, 50, 90), "a", ""), DrawnBox((100, 40, 150, 90), "b", "")]
    drawn = draw_boxes(Image.new("RGB", (200, 100), GREY), [*boxes, boxes[0]])
    assert drawn.getpixel((10, 60)) != drawn.getpixel((100, 60))


def test_palette_and_grey_pictures_can_be_drawn_on() -> None:
    for mode in ("L", "P"):
        assert draw_boxes(Image.new(mode, (50, 50)), []).mode == "RGB"
