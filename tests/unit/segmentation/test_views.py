"""The view of each prompt: the whole picture, a square part of a wide one, or a tile."""

import numpy as np
import pytest

from prelabel.detection.pictures import PicturePart
from prelabel.detection.tiling import Tile, Tiling
from prelabel.segmentation.views import ViewRule, clipped
from prelabel.types import MaskLogits, MaskPrompt

NO_TILES = Tiling(0, 0.25, 64)
SQUARES = ViewRule(NO_TILES, square=True, box_margin=0.1)
Box = tuple[float, float, float, float]


def view(rule: ViewRule, box: Box, wh: tuple[int, int]) -> Tile:
    [chosen] = rule.by_view([MaskPrompt(box)], wh)
    return chosen


@pytest.mark.parametrize(("wh", "turned"), [((800, 400), False), ((400, 800), True)])
def test_a_box_of_a_wide_or_high_picture_is_segmented_in_a_square(
    wh: tuple[int, int], turned: bool
) -> None:
    for left in range(0, 700, 25):
        along, across = (left, left + 100), (150, 250)
        x, y = (across, along) if turned else (along, across)
        square = view(SQUARES, (x[0], y[0], x[1], y[1]), wh)
        assert square.wh == (400, 400)
        start = square.top if turned else square.left
        assert start == 0 or start <= left - 10  # with a tenth of the box around it
        assert start == 400 or start + 400 >= left + 110


def test_boxes_without_a_square_that_holds_them_see_the_whole_picture() -> None:
    whole = Tile(0, 0, 800, 400)
    assert view(SQUARES, (100, 100, 600, 300), (800, 400)) == whole
    assert view(SQUARES, (0, 0, 800, 400), (800, 400)) == whole


def test_a_click_sees_the_whole_picture() -> None:
    click = MaskPrompt(points_xy=((20.0, 20.0),), points_inside=(True,))
    assert set(SQUARES.by_view([click], (800, 400))) == {Tile(0, 0, 800, 400)}


@pytest.mark.parametrize("wh", [(600, 400), (400, 600), (500, 500), (1, 1)])
def test_pictures_up_to_three_by_two_have_one_view(wh: tuple[int, int]) -> None:
    assert view(SQUARES, (0, 0, wh[0] / 10, wh[1] / 10), wh) == Tile(0, 0, *wh)


def test_only_cards_that_say_so_have_square_views() -> None:
    rule = ViewRule(NO_TILES, square=False, box_margin=0.1)
    assert view(rule, (10, 10, 40, 40), (800, 400)) == Tile(0, 0, 800, 400)


def test_a_strip_has_a_bounded_number_of_views() -> None:
    wh = (20_000, 20)
    prompts = [MaskPrompt((x, 5, x + 10, 15)) for x in range(0, 19_990, 10)]
    chosen = SQUARES.by_view(prompts, wh)
    assert len(chosen) <= 65
    assert sum(map(len, chosen.values())) == len(prompts)


def test_the_smallest_of_tiles_and_squares_is_chosen() -> None:
    rule = ViewRule(Tiling(200, 0.25, 64), square=True, box_margin=0.1)
    assert view(rule, (10, 10, 40, 40), (800, 400)).wh == (200, 200)
    assert view(rule, (10, 10, 260, 260), (800, 400)).wh == (400, 400)


@pytest.mark.parametrize("scale", [1, 4])
def test_prompts_and_masks_change_their_frame_with_the_view(scale: int) -> None:
    click = MaskPrompt(points_xy=((80.0, 40.0),), points_inside=(True,))
    prompts = [MaskPrompt((10, 10, 50, 50)), MaskPrompt((700, 100, 780, 200)), click]
    chosen = SQUARES.by_view(prompts, (800, 400))
    [second] = chosen[Tile(400, 0, 800, 400)]
    assert second.row == 1
    assert second.prompt.clip_xyxy == pytest.approx((692, 90, 788, 210))
    pixels = np.zeros((400 // scale, 400 // scale, 3), np.uint8)
    part = PicturePart(pixels, Tile(400, 0, 800, 400), scale)
    local = second.within(part)
    assert local.box_xyxy == pytest.approx(np.array((300, 100, 380, 200)) / scale)
    assert local.clip_xyxy == pytest.approx(np.array((292, 90, 388, 210)) / scale)
    logits = np.ones((2, 2), np.float16)
    mask = second.in_picture(
        MaskLogits(logits, (3, 4), (160, 160), (0, 0, 100, 100), local.clip_xyxy, 0.9), part
    )
    assert mask.view_xyxy == (400, 0, 800, 400)
    assert mask.clip_xyxy == second.prompt.clip_xyxy
    [third] = chosen[Tile(0, 0, 800, 400)]
    whole = PicturePart(pixels, Tile(-1, 0, 800, 400), scale)
    assert third.within(whole).points_xy == ((81 / scale, 40 / scale),)


def test_a_box_beyond_the_picture_is_clipped() -> None:
    prompt = clipped(MaskPrompt((-20, 10, 900, 60)), (800, 400), 0.1)
    assert prompt.box_xyxy == (0, 10, 800, 60)
    assert prompt.clip_xyxy == (0, 5, 800, 65)
