"""The measures of masks, and the segmenter that ships on scenes that it was not trained on."""

import math
from pathlib import Path

import numpy as np
import pytest

from prelabel.checkpoints.cards import load_card, load_segmenter_card, model_folder
from prelabel.types import Masks
from training.evaluate import load
from training.held_out import Scenes
from training.icons import Sprites
from training.scenes import Scene
from training.segmentation import evaluate
from training.segmentation.card import NAME
from training.segmentation.evaluate import (
    MaskDrawer,
    MaskTally,
    box_prompts,
    click_prompt,
    end_to_end_tally,
    filled_box,
    grabcut,
    iou,
    mask_sets,
    mask_tally,
    moved_boxes,
)
from training.world import World

HW = (120, 160)
ROWS, COLUMNS = np.mgrid[: HW[0], : HW[1]] + 0.5
DISTANCE = np.hypot(ROWS - 60, COLUMNS - 70)
DISC: Masks = DISTANCE < 30
BOX = np.array([40, 30, 100, 90], np.float32)
COUNT = 6


def drawn(mask: Masks) -> Scene:
    """Return a scene with one red object on grey."""
    image = np.full((*HW, 3), 128, np.uint8)
    image[mask] = (220, 30, 30)
    return Scene(image, ("red circle",), BOX[None], np.zeros(1, np.int64), mask[None])


@pytest.fixture(scope="module")
def draw() -> MaskDrawer:
    return MaskDrawer(load_segmenter_card(NAME))


@pytest.fixture(scope="module")
def shapes(world: World) -> list[Scene]:
    return list(Scenes(mask_sets(world)["unseen_pairs"], world, Sprites({}), masks=True)(COUNT))


def test_iou_of_masks() -> None:
    nothing = np.zeros(HW, bool)
    assert iou(DISC, DISC) == 1
    assert iou(DISC, ~DISC) == iou(DISC, nothing) == iou(nothing, nothing) == 0
    assert iou(DISC, filled_box(BOX, HW)) == pytest.approx(math.pi / 4, abs=0.005)


def test_a_click_lands_where_an_object_is_deepest() -> None:
    [point] = click_prompt(DISC).points_xy
    assert point == pytest.approx((70, 60), abs=1.5)
    ring = DISC & (DISTANCE > 20)
    [(x, y)] = click_prompt(ring).points_xy
    assert math.hypot(x - 70, y - 60) == pytest.approx(25, abs=1.5)
    everything = np.ones(HW, bool)  # the picture's border is an edge, too
    [(_, y)] = click_prompt(everything).points_xy
    assert y == pytest.approx(60, abs=1)


def test_moved_boxes_are_the_same_in_each_run_and_lie_in_the_picture() -> None:
    boxes = np.tile(np.array([[0, 0, 50, 40], [100, 80, 160, 120]], np.float32), (200, 1))
    moved = moved_boxes(boxes, (160, 120), seed=3)
    assert np.array_equal(moved, moved_boxes(boxes, (160, 120), seed=3))
    assert not np.array_equal(moved, moved_boxes(boxes, (160, 120), seed=4))
    assert moved.min() >= 0
    assert (moved <= (160, 120, 160, 120)).all()
    assert (moved[::2, 2] - 50).std() == pytest.approx(0.04 * 50, rel=0.2)


def test_grabcut_finds_a_disc() -> None:
    assert iou(grabcut(drawn(DISC).image, BOX), DISC) > 0.95


def test_masks_end_a_margin_around_their_boxes(draw: MaskDrawer) -> None:
    half = np.array([40, 30, 70, 90], np.float32)  # the left half of the disc
    [mask] = draw(drawn(DISC).image, box_prompts(half[None]))
    assert mask.shape == HW
    assert mask.any()
    assert not mask[:, 72:].any()
    assert len(draw(drawn(DISC).image, [])) == 0


def test_a_small_object_of_a_wide_picture_is_as_fine_as_in_a_square_one(draw: MaskDrawer) -> None:
    rows, columns = np.mgrid[:240, :720] + 0.5
    disc: Masks = np.hypot(rows - 120, columns - 500) < 25
    image = np.full((240, 720, 3), 128, np.uint8)
    image[disc] = (220, 30, 30)
    box = np.array([[475, 95, 525, 145]], np.float32)
    [mask] = draw(image, box_prompts(box))
    [square] = draw(image[:, 380:620], box_prompts(box - (380, 0, 380, 0)))
    assert iou(mask, disc) > 0.93
    assert iou(mask, disc) == pytest.approx(iou(square, disc[:, 380:620]), abs=0.02)


def test_figures_of_a_tally() -> None:
    tally = MaskTally(
        box=[0.5, 0.9, 1.0],
        moved=[0.4] * 3,
        click=[0.3] * 3,
        filled=[0.2] * 3,
        sizes=[0.1, 0.2, 0.5],
    )
    assert tally.figures() == pytest.approx([0.8, 0.4, 0.3, 0.2, 0.5, 1.0, 0.58])
    tally.grabcut = [0.7]
    assert tally.figures()[-2:] == pytest.approx([0.7, 0.5])
    assert all(math.isnan(figure) for figure in MaskTally().figures())


def test_the_segmenter_that_ships_finds_shapes(draw: MaskDrawer, shapes: list[Scene]) -> None:
    tally = mask_tally(draw, [*shapes, drawn(DISC)], grabcut_scenes=1)
    objects = sum(len(scene.boxes) for scene in shapes) + 1
    assert len(tally.box) == len(tally.click) == len(tally.sizes) == objects > 10
    assert len(tally.grabcut) == len(shapes[0].boxes)
    assert tally.filled[-1] == pytest.approx(math.pi / 4, abs=0.005)
    assert tally.box[-1] > 0.9
    box, moved, click, filled = tally.figures()[:4]
    assert 0.4 < filled < 0.8
    assert box > 0.85
    assert moved > 0.83
    assert click > 0.6


def test_phrases_become_masks(draw: MaskDrawer, shapes: list[Scene]) -> None:
    card = load_card("demo")
    tally = end_to_end_tally(load(card, model_folder(card, "models"), card.engine), draw, shapes)
    assert tally.objects > 10
    assert 0.4 * tally.objects < tally.masks <= tally.objects
    assert abs(tally.masks - tally.boxes) <= 2


def test_the_command_prints_a_row_for_each_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ["--scenes", "2", "--sets", "unseen_pairs", "--work", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["evaluate", *arguments])
    evaluate.main()
    header, rule, row = capsys.readouterr().out.splitlines()
    assert row.startswith("| coloured shapes, pairs never seen | 0.")
    assert header.count("|") == rule.count("|") == row.count("|") == 9
