"""The regions that an annotation has already, as boxes."""

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from prelabel.labelstudio.present_regions import present_regions
from prelabel.labelstudio.result_entries import ResultEntry
from prelabel.masks.bitmask import bitmask_data_url
from prelabel.masks.rle import encode_rle


def entry(**fields: Any) -> ResultEntry:
    return ResultEntry(**fields)


def region_entry(kind: str, value: dict[str, Any] | None, **fields: int | str) -> ResultEntry:
    return entry(type=kind, from_name="label", to_name="image", value=value, **fields)


BOX = {"x": 10, "y": 20, "width": 30, "height": 40}


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([region_entry("rectanglelabels", {**BOX, "rectanglelabels": ["cat"]})], [("cat", None)]),
        ([region_entry("rectanglelabels", BOX, item_index=2)], [(None, 2)]),
        (
            [
                region_entry("rectangle", BOX, id="a"),
                region_entry("labels", {**BOX, "labels": ["cat"]}, id="a"),
                region_entry("rectangle", BOX, id="b"),
            ],
            [("cat", None), (None, None)],
        ),
        ([region_entry("rectanglelabels", {"x": 1})], []),
        ([region_entry("rectanglelabels", {**BOX, "x": "1"})], []),
        ([region_entry("rectanglelabels", {**BOX, "x": float("nan")})], []),
        ([region_entry("rectanglelabels", {**BOX, "width": 1e308})], []),
        (
            [region_entry("brushlabels", {"rle": [1]}), region_entry("rectangle", None)],
            [],
        ),
    ],
)
def test_the_boxes_of_an_annotation_are_read(
    entries: list[ResultEntry], expected: list[Any]
) -> None:
    assert [(box.label, box.item_index) for box in present_regions(entries)] == expected


def test_a_turned_box_counts_by_the_upright_one_around_it() -> None:
    value = {"x": 50, "y": 50, "width": 10, "height": 20, "rotation": 90}
    sizes = {"original_width": 640, "original_height": 480}
    [box] = present_regions([region_entry("rectanglelabels", value, **sizes)])
    assert box.box_pct == pytest.approx((35, 50, 50, 63.3333), abs=1e-3)
    [upright] = present_regions([region_entry("rectanglelabels", BOX)])
    assert upright.box_pct == pytest.approx((10, 20, 40, 60))


@pytest.mark.parametrize("size", [0, -1, 10**400])
def test_a_region_of_a_picture_without_a_size_is_taken_as_it_stands(size: int) -> None:
    sizes = {"original_width": size, "original_height": size}
    [box] = present_regions([region_entry("rectanglelabels", {**BOX, "rotation": 0}, **sizes)])
    assert box.box_pct == pytest.approx((10, 20, 40, 60))


W, H = 200, 100
SIZES = {"original_width": W, "original_height": H}
RUNS = np.array([[10 * W + 20, 10 * W + 60], [29 * W + 20, 29 * W + 40]])  # x 20..60, y 10..30
RLE = list(encode_rle(RUNS, W * H))
CORNERS = ((10.0, 10.0), (30.0, 10.0), (10.0, 30.0))


def drawn_by_hand() -> str:
    """A mask as a page's canvas saves it: RGBA, black, partly transparent at its edges."""
    pixels = np.zeros((H, W, 4), np.uint8)
    pixels[10:30, 20:60, 3] = 120
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize(
    ("tag", "form"),
    [
        ("brush", {"format": "rle", "rle": RLE}),
        ("bitmask", {"imageDataURL": bitmask_data_url(RUNS, (W, H))}),
        ("bitmask", {"imageDataURL": drawn_by_hand()}),
        ("polygon", {"points": [list(corner) for corner in CORNERS], "closed": True}),
        ("vector", {"vertices": [{"x": x, "y": y, "id": "a"} for x, y in CORNERS]}),
    ],
)
def test_masks_of_all_shapes_are_read(tag: str, form: dict[str, Any]) -> None:
    labelled = region_entry(f"{tag}labels", {**form, f"{tag}labels": ["cat"]}, **SIZES)
    pair = [
        region_entry(tag, form, id="a", **SIZES),
        region_entry("labels", {**form, "labels": ["dog"]}, id="a", **SIZES),
    ]
    found = present_regions([labelled, *pair])
    assert [region.label for region in found] == ["cat", "dog"]
    for region in found:
        assert region.box_pct == pytest.approx((10, 10, 30, 30))


def test_a_mask_whose_box_is_there_does_not_count_twice() -> None:
    value = {"format": "rle", "rle": RLE, "brushlabels": ["cat"]}
    box = region_entry("rectanglelabels", {**BOX, "rectanglelabels": ["cat"]}, id="b")
    child = region_entry("brushlabels", value, id="m", parentID="b", **SIZES)
    orphan = region_entry("brushlabels", value, id="n", parentID="gone", **SIZES)
    assert len(present_regions([box, child])) == 1
    assert len(present_regions([box, orphan])) == 2


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ("brushlabels", {"rle": RLE[:10]}),
        ("brushlabels", {"rle": [300, -1]}),
        ("brushlabels", {"rle": ["a"]}),
        ("brushlabels", {"rle": [1.5]}),
        ("brushlabels", {"rle": "abc"}),
        ("brushlabels", {"rle": []}),
        ("brushlabels", {"rle": list(encode_rle(RUNS, 9 * W * H))}),
        ("brushlabels", {"rle": list(encode_rle(RUNS[:0], W * H))}),
        ("bitmasklabels", {"imageDataURL": "data:image/png;base64,AAAA"}),
        ("bitmasklabels", {"imageDataURL": "http://127.0.0.1/mask.png"}),
        ("bitmasklabels", {"imageDataURL": bitmask_data_url(RUNS, (W, H + 1))}),
        ("bitmasklabels", {"imageDataURL": bitmask_data_url(RUNS[:0], (W, H))}),
        ("bitmasklabels", {"imageDataURL": None}),
        ("polygonlabels", {"points": []}),
        ("polygonlabels", {"points": [[1, float("nan")]]}),
        ("polygonlabels", {"points": [[1]]}),
        ("polygonlabels", {"points": 3}),
        ("vectorlabels", {"vertices": [{"x": 1}]}),
        ("vectorlabels", {"vertices": [None]}),
        ("vectorlabels", {"vertices": {}}),
    ],
)
def test_damaged_masks_are_passed_over(kind: str, form: dict[str, Any]) -> None:
    box = region_entry("rectanglelabels", BOX)
    assert len(present_regions([region_entry(kind, form, **SIZES), box])) == 1


@pytest.mark.parametrize("sizes", [{}, {"original_width": 0, "original_height": 5}])
def test_masks_of_a_picture_without_a_size_are_passed_over(sizes: dict[str, int]) -> None:
    assert present_regions([region_entry("brushlabels", {"rle": RLE}, **sizes)]) == ()


def test_masks_beyond_the_limits_of_an_annotation_are_passed_over() -> None:
    noise = np.random.default_rng(0).random((500, 500)) < 0.5
    edges = np.flatnonzero(np.diff(noise.ravel().astype(np.int8), prepend=0, append=0))
    code = list(encode_rle(edges.reshape(-1, 2), noise.size))
    assert 100_000 < len(code) < 256 * 1024
    brush = region_entry("brushlabels", {"rle": code}, original_width=500, original_height=500)
    assert len(present_regions([brush] * 10)) == 256 * 1024 // len(code)
    url = bitmask_data_url(np.array([[0, 9]]), (3_000, 3_000))
    bitmap = region_entry(
        "bitmasklabels", {"imageDataURL": url}, original_width=3_000, original_height=3_000
    )
    assert len(present_regions([bitmap] * 10)) == 2
