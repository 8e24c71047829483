from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from prelabel.detection.tiling import Tile, Tiling, merge_views
from prelabel.types import Detections

MOST = 3000
sides = st.integers(1, 5000)


def detections(
    boxes: list[Any],
    wh: tuple[int, int],
    scores: NDArray[Any] | list[float] | None = None,
    phrases: list[int] | None = None,
) -> Detections:
    count = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores if scores is not None else [0.5] * count, np.float32),
        np.array(phrases if phrases is not None else [0] * count, np.int64),
        wh,
    )


def seen(objects: list[tuple[float, ...]], tile: Tile) -> Detections:
    """Return the boxes of a perfect detector on a tile: those within it, cut at its edges."""
    boxes, phrases = [], []
    for number, (left, top, right, bottom) in enumerate(objects):
        box = (
            max(left, tile.left) - tile.left,
            max(top, tile.top) - tile.top,
            min(right, tile.right) - tile.left,
            min(bottom, tile.bottom) - tile.top,
        )
        if box[0] < box[2] and box[1] < box[3]:
            boxes.append(box)
            phrases.append(number)
    return detections(boxes, tile.wh, phrases=phrases)


@pytest.mark.parametrize("wh", [(300, 200), (400, 400), (1, 400)])
def test_a_picture_no_larger_than_a_tile_is_looked_at_once(wh: tuple[int, int]) -> None:
    assert Tiling(400, 0.25, 64).views(wh) == (Tile(0, 0, *wh),)


def test_without_a_tile_size_every_picture_is_looked_at_once() -> None:
    assert Tiling(0, 0.25, 64).views((9000, 7000)) == (Tile(0, 0, 9000, 7000),)


def test_tiles_lie_side_by_side_with_their_overlap() -> None:
    whole, *tiles = Tiling(400, 0.25, 64).views((976, 300))
    assert whole == Tile(0, 0, 976, 300)
    assert tiles == [Tile(0, 0, 400, 300), Tile(288, 0, 688, 300), Tile(576, 0, 976, 300)]


def test_a_single_tile_would_be_the_whole_picture_again() -> None:
    assert Tiling(400, 0.25, 1).views((900, 900)) == (Tile(0, 0, 900, 900),)


@given(width=sides, height=sides, size=st.integers(50, 2000), overlap=st.floats(0.05, 0.5))
def test_tiles_cover_the_picture_and_never_leave_it(
    width: int, height: int, size: int, overlap: float
) -> None:
    _, *tiles = Tiling(size, overlap, 40).views((width, height))
    assert len(tiles) <= 40
    assert bool(tiles) == (max(width, height) > size)
    for along in (0, 1):
        length = (width, height)[along]
        spans = sorted({((t.left, t.right), (t.top, t.bottom))[along] for t in tiles})
        if spans:
            assert spans[0][0] == 0
            assert spans[-1][1] == length
        for (_, end), (start, _) in pairwise(spans):
            assert end - start >= size * overlap - 2


@st.composite
def pictures_with_small_objects(draw: st.DrawFn) -> Any:
    wh = draw(st.tuples(st.integers(500, 3000), st.integers(500, 3000)))
    largest = 400 * 0.25 - 2  # largest object that is whole in one tile; rounding takes two pixels
    objects = []
    for _ in range(draw(st.integers(1, 8))):
        w, h = draw(st.tuples(st.floats(8, largest), st.floats(8, largest)))
        left, top = draw(st.floats(0, wh[0] - w)), draw(st.floats(0, wh[1] - h))
        objects.append((left, top, left + w, top + h))
    return wh, objects


@given(pictures_with_small_objects())
def test_small_objects_are_found_once_each_wherever_seams_are(picture: Any) -> None:
    wh, objects = picture
    whole, *tiles = Tiling(400, 0.25, 200).views(wh)
    nothing = detections([], wh)  # small as they are
    found = merge_views([(whole, nothing), *((t, seen(objects, t)) for t in tiles)], MOST)
    assert sorted(found.phrase_index) == list(range(len(objects)))
    ordered = [objects[i] for i in found.phrase_index]
    assert found.boxes_xyxy == pytest.approx(np.array(ordered), abs=0.01)
    assert found.image_wh == wh


@given(pictures_with_small_objects())
def test_with_tiles_a_detector_that_sees_everything_finds_the_same(picture: Any) -> None:
    wh, objects = picture
    views = Tiling(400, 0.25, 200).views(wh)
    found = merge_views([(view, seen(objects, view)) for view in views], MOST)
    assert sorted(found.phrase_index) == list(range(len(objects)))


def test_a_large_object_is_the_whole_pictures_and_its_parts_in_tiles_go() -> None:
    wh, elephant = (1000, 800), (100.0, 90.0, 900.0, 710.0)
    views = Tiling(400, 0.25, 64).views(wh)
    found = merge_views([(view, seen([elephant], view)) for view in views], MOST)
    assert found.boxes_xyxy.tolist() == [list(elephant)]


def test_an_object_at_the_pictures_own_edge_is_not_cut_off() -> None:
    wh, corner = (1000, 800), (940.0, 760.0, 1000.0, 800.0)
    whole, *tiles = Tiling(400, 0.25, 64).views(wh)
    views = [(whole, detections([], wh)), *((t, seen([corner], t)) for t in tiles)]
    assert merge_views(views, MOST).boxes_xyxy.tolist() == [list(corner)]


def test_of_one_object_the_best_box_stays_and_best_come_first() -> None:
    whole, tile = Tile(0, 0, 800, 400), Tile(0, 0, 400, 400)
    coarse = detections([[100, 100, 160, 160], [600, 50, 700, 150]], whole.wh, [0.4, 0.9])
    fine = detections([[105, 102, 158, 161], [30, 30, 60, 60]], tile.wh, [0.8, 0.95])
    found = merge_views([(whole, coarse), (tile, fine)], MOST)
    assert found.scores.tolist() == pytest.approx([0.95, 0.9, 0.8])
    assert found.boxes_xyxy[2].tolist() == [105, 102, 158, 161]


def test_two_boxes_of_one_view_are_left_to_the_usual_suppression() -> None:
    whole, tile = Tile(0, 0, 800, 400), Tile(0, 0, 400, 400)
    crowd = detections([[100, 100, 160, 160], [110, 105, 170, 165]], tile.wh, [0.8, 0.7])
    found = merge_views([(whole, detections([], whole.wh)), (tile, crowd)], MOST)
    assert len(found.scores) == 2


def test_boxes_of_different_phrases_are_never_one_object() -> None:
    whole, tile = Tile(0, 0, 800, 400), Tile(0, 0, 400, 400)
    cat = detections([[100, 100, 160, 160]], whole.wh, [0.8], [0])
    animal = detections([[100, 100, 160, 160]], tile.wh, [0.7], [1])
    assert len(merge_views([(whole, cat), (tile, animal)], MOST).scores) == 2


def test_only_so_many_boxes_are_merged_the_best() -> None:
    whole, tile = Tile(0, 0, 800, 400), Tile(0, 0, 400, 400)
    boxes = [[10 * i, 10, 10 * i + 5, 15] for i in range(1, 30)]
    many = detections(boxes, tile.wh, np.linspace(0.1, 0.9, 29))
    found = merge_views([(whole, detections([], whole.wh)), (tile, many)], 5)
    assert found.scores.tolist() == pytest.approx(np.linspace(0.1, 0.9, 29)[:-6:-1].tolist())
