"""Masks as Label Studio's regions: every shape, holes and islands, overlaps, limits."""

import base64
import io
from typing import Any

import numpy as np
import pytest
from label_studio_sdk.converter.brush import decode_rle
from PIL import Image

from prelabel.detection.suppression import Suppression
from prelabel.labelstudio.mask_regions import MaskPen
from prelabel.labelstudio.prediction_builder import PredictionBuilder
from prelabel.labelstudio.predictions import to_regions
from prelabel.settings import MaskSettings
from prelabel.types import (
    Detections,
    LookPlan,
    MaskLogits,
    MaskPrompt,
    Masks,
    MaskShape,
    MaskTarget,
    PromptedObject,
    Target,
    TaskPlan,
    Thresholds,
)
from tests.support.masks import drawn, mask_iou

WH = (80, 60)
SHAPES: tuple[MaskShape, ...] = ("brush", "polygon", "bitmask", "vector")
ALL = Suppression(1.0, False, 100)
PLAIN = MaskSettings(min_island_px=0, min_hole_px=0)


def logits_of(inside: Masks, quality: float = 0.8) -> MaskLogits:
    """The mask of a picture whose cells are its pixels."""
    height, width = inside.shape
    cells = np.where(inside, 1, -1).astype(np.float16)
    return MaskLogits(cells, (0, 0), (width, height), (0, 0, width, height), None, quality)


def rectangle(left: int, top: int, right: int, bottom: int) -> Masks:
    inside = np.zeros((WH[1], WH[0]), bool)
    inside[top:bottom, left:right] = True
    return inside


def target(*shapes: MaskShape, label: str | None = "cat", **fields: Any) -> Target:
    masks = tuple(MaskTarget(shape, shape, label, 0.0) for shape in shapes)
    return Target("boxes", "image", label, 0.0, masks=masks, **fields)


def regions(
    masks: list[Masks | None], *targets: Target, settings: MaskSettings = PLAIN, **look: Any
) -> tuple[list[Any], list[str]]:
    """The regions of objects with these masks, and the notes; scores fall from 0.9."""
    count = len(masks)
    plan = LookPlan("", None, ("cat",) * count, targets, Thresholds(0, 0), **look)
    boxes = np.array([[i, 5, i + 50, 45] for i in range(count)], np.float32).reshape(-1, 4)
    found = Detections(
        boxes,
        np.linspace(0.9, 0.5, count, dtype=np.float32),
        np.arange(count),
        WH,
        tuple(None if mask is None else logits_of(mask) for mask in masks),
    )
    pen = MaskPen(settings)
    return to_regions(plan, found, ALL, pen), pen.notes()


def pixels(region: Any) -> Masks:
    value = region["value"]
    if "rle" in value:
        return np.asarray(decode_rle(value["rle"])).reshape(WH[1], WH[0], 4)[..., 3] > 0
    if "imageDataURL" in value:
        png = Image.open(io.BytesIO(base64.b64decode(value["imageDataURL"].split(",")[1])))
        return np.asarray(png.convert("RGBA"))[..., 3] > 0
    points = value.get("points") or [(v["x"], v["y"]) for v in value["vertices"]]
    return drawn([np.array(points) * np.array(WH) / 100], WH)


def test_no_masks_are_no_regions() -> None:
    assert regions([]) == ([], [])


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_shows_the_mask_and_is_linked_to_its_box(shape: MaskShape) -> None:
    inside = rectangle(10, 10, 40, 35)
    (box, mask), notes = regions([inside], target(shape))
    assert mask_iou(pixels(mask), inside) > 0.97
    assert mask["parentID"] == box["id"] != mask["id"]
    assert mask["score"] == box["score"] == 0.9
    assert mask["type"] == f"{shape}labels"
    assert mask["value"][f"{shape}labels"] == ["cat"]
    assert mask["meta"] == {"mask_quality": 0.8}
    assert (mask["original_width"], mask["original_height"]) == WH
    assert notes == []


def test_all_shapes_of_one_mask() -> None:
    found, _ = regions([rectangle(10, 10, 40, 35)], target(*SHAPES))
    assert [region["type"] for region in found] == [
        "rectanglelabels",
        *(f"{shape}labels" for shape in SHAPES),
    ]
    assert len({region["id"] for region in found}) == 5


def test_a_vector_is_a_closed_chain() -> None:
    _, vector = regions([rectangle(10, 10, 40, 35)], target("vector"))[0]
    vertices = vector["value"]["vertices"]
    assert vector["value"]["closed"] is True
    assert [v["prevPointId"] for v in vertices] == [None, *(v["id"] for v in vertices[:-1])]


def test_labels_of_another_tag_are_a_second_entry_with_the_same_id() -> None:
    paired = Target(
        "labels", "image", "cat", 0.0, "r", masks=(MaskTarget("brush", "labels", "cat", 0, "b"),)
    )
    found, _ = regions([rectangle(10, 10, 40, 35)], paired)
    assert [(r["type"], r["from_name"]) for r in found] == [
        ("rectangle", "r"),
        ("labels", "labels"),
        ("brush", "b"),
        ("labels", "labels"),
    ]
    brush, labels = found[2:]
    assert brush["id"] == labels["id"]
    assert brush["value"]["rle"] == labels["value"]["rle"]
    assert labels["value"]["labels"] == ["cat"]


def test_masks_without_boxes_have_no_parent() -> None:
    [mask], _ = regions([rectangle(10, 10, 40, 35)], target("brush", draws_box=False))
    assert "parentID" not in mask


def test_a_mask_without_a_label() -> None:
    found, _ = regions([rectangle(10, 10, 40, 35)], target("brush", label=None, draws_box=False))
    assert set(found[0]["value"]) == {"format", "rle"}
    assert found[0]["type"] == "brushlabels"


def test_an_empty_mask_leaves_the_box() -> None:
    found, _ = regions([np.zeros((WH[1], WH[0]), bool)], target("brush"))
    assert [region["type"] for region in found] == ["rectanglelabels"]


def test_islands_and_holes_by_the_settings() -> None:
    inside = rectangle(10, 10, 40, 35)
    inside[20:22, 20:22] = False
    inside[50:52, 60:62] = True
    settings = MaskSettings(min_island_px=5, min_hole_px=5)
    (_, brush), _ = regions([inside], target("brush"), settings=settings)
    assert (pixels(brush) == rectangle(10, 10, 40, 35)).all()
    (_, kept), _ = regions([inside], target("brush"))
    assert (pixels(kept) == inside).all()


def test_each_part_is_a_polygon_or_the_largest_alone_and_lost_holes_are_said() -> None:
    inside = rectangle(5, 5, 40, 40) | rectangle(50, 20, 70, 40)
    inside[15:25, 15:25] = False
    (_, *rings), _ = regions([inside], target("polygon"))
    assert len(rings) == 2
    assert rings[0]["meta"]["text"] == ["The mask has a hole, which one outline cannot show."]
    assert "text" not in rings[1]["meta"]
    assert len({ring["parentID"] for ring in rings}) == 1
    settings = MaskSettings(polygon_parts="largest")
    (_, ring), _ = regions([inside], target("polygon"), settings=settings)
    assert mask_iou(pixels(ring), rectangle(5, 5, 40, 40)) > 0.97


@pytest.mark.parametrize("shape", ["brush", "polygon"])
def test_overlaps_belong_to_the_best_score_if_the_setting_says_so(shape: MaskShape) -> None:
    first, second = rectangle(0, 10, 30, 35), rectangle(20, 10, 50, 35)
    settings = MaskSettings(overlaps="best_score")
    found, _ = regions([first, second], target(shape), target(shape), settings=settings)
    masks = [pixels(region) for region in found if region["type"] == f"{shape}labels"]
    assert mask_iou(masks[0], first) > 0.97
    assert mask_iou(masks[1], second & ~first) > 0.97
    kept, _ = regions([first, second], target(shape), target(shape))
    assert mask_iou(pixels(kept[3]), second) > 0.97


def test_beyond_the_bytes_polygons_and_boxes_stay_and_the_rest_is_said() -> None:
    inside = rectangle(10, 10, 40, 35)
    settings = MaskSettings(max_bytes=300)
    noisy = inside & (np.random.default_rng(0).random(inside.shape) < 0.5)
    found, notes = regions(
        [noisy | inside, noisy], target("polygon"), target("brush"), settings=settings
    )
    assert [r["type"] for r in found] == ["rectanglelabels", "polygonlabels", "rectanglelabels"]
    [note] = notes
    assert note.startswith("Masks left out: 1. Those of a task may have 300 bytes.")
    assert note.endswith("raise masks.max_bytes.")


def test_boxes_beyond_the_limit_of_masks_are_said() -> None:
    found, notes = regions([rectangle(10, 10, 40, 35), None], target("brush"), target("brush"))
    assert [r["type"] for r in found] == ["rectanglelabels", "brushlabels", "rectanglelabels"]
    [note] = notes
    assert note.startswith("Boxes without a mask: 1. A picture gets at most 100 masks.")


def test_a_mask_below_the_threshold_of_its_tag_is_not_drawn_and_not_missed() -> None:
    strict = Target("boxes", "image", "cat", 0.0, masks=(MaskTarget("brush", "b", "cat", 0.95),))
    found, notes = regions([None], strict)
    assert [r["type"] for r in found] == ["rectanglelabels"]
    assert notes == []


def test_what_was_clicked_gets_the_box_of_its_mask() -> None:
    objects = (PromptedObject(MaskPrompt(None, ((30.0, 40.0),), (True,)), target("brush")),)
    (box, brush), _ = regions([rectangle(8, 12, 40, 36)], objects=objects)
    assert {k: box["value"][k] for k in ("x", "y", "width", "height")} == {
        "x": 10.0,
        "y": 20.0,
        "width": 40.0,
        "height": 40.0,
    }
    assert brush["parentID"] == box["id"]
    assert "meta" not in box


def test_a_click_on_nothing_gets_nothing() -> None:
    objects = (PromptedObject(MaskPrompt(None, ((30.0, 40.0),), (True,)), target("brush")),)
    found, _ = regions([np.zeros((WH[1], WH[0]), bool)], objects=objects)
    assert found == []


def test_pictures_of_a_task_share_the_bytes_and_their_notes_are_in_the_prediction() -> None:
    look = LookPlan("", 0, ("cat",), (target("bitmask"),), Thresholds(0, 0))
    found = Detections(
        np.array([[10, 10, 40, 35]], np.float32),
        np.array([0.9], np.float32),
        np.array([0]),
        WH,
        (logits_of(rectangle(10, 10, 40, 35)),),
    )
    builder = PredictionBuilder(ALL, MaskSettings(max_bytes=250), "v1")
    prediction = builder.build(TaskPlan((look, look)), [found, found])
    assert [r["type"] for r in prediction["result"]] == [
        "rectanglelabels",
        "bitmasklabels",
        "rectanglelabels",
    ]
    assert len(prediction["notes"]) == 1
    assert prediction["score"] == pytest.approx(0.9)
