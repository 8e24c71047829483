"""Masks on the running service: of prompts, in bulk, of clicks, in every frame; faults beside."""

import io
from typing import Any

import numpy as np
import pytest
from label_studio_sdk.converter.brush import decode_rle
from label_studio_sdk.label_interface.interface import LabelInterface
from PIL import Image

from tests.support.result_entries import typed
from tests.support.scenes import SCENE, data_uri, encoded, fresh, scene
from tests.support.service_client import Service

LABELS = '<Label value="red circle"/><Label value="blue square"/>'
CIRCLE, SQUARE = (60, 60, 220, 220), (380, 200, 560, 400)  # xyxy in the scene of 640 x 480


def config(*tags: str, boxes: bool = True, image: str = 'value="$image"') -> str:
    masks = "".join(f'<{tag} name="{tag}" toName="image">{LABELS}</{tag}>' for tag in tags)
    rectangles = f'<RectangleLabels name="label" toName="image">{LABELS}</RectangleLabels>'
    return (
        f'<View><TextArea name="prompt" toName="image"/><Image name="image" {image}/>'
        f"{rectangles if boxes else ''}{masks}</View>"
    )


def pixels(region: dict[str, Any]) -> Any:
    shape = (region["original_height"], region["original_width"], 4)
    return np.asarray(decode_rle(region["value"]["rle"])).reshape(shape)[..., 3] > 0


def truth(label: str, wh: tuple[int, int] = (640, 480)) -> Any:
    """The scene's object, drawn at the size."""
    y, x = (
        (np.arange(side) + 0.5) * full / side
        for side, full in zip(wh[::-1], (480, 640), strict=True)
    )
    if label == "red circle":
        return np.hypot(x[None] - 140.5, y[:, None] - 140.5) < 80.5
    inside_x, inside_y = (
        (x > SQUARE[0]) & (x < SQUARE[2] + 1),
        (y > SQUARE[1]) & (y < SQUARE[3] + 1),
    )
    return inside_y[:, None] & inside_x[None]


def iou(a: Any, b: Any) -> float:
    return float((a & b).sum() / (a | b).sum())


def of_type(entry: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [region for region in entry["result"] if region["type"] == kind]


def check(entry: dict[str, Any], wh: tuple[int, int] = (640, 480)) -> None:
    """Both objects have a box and a mask that lies on the object."""
    boxes = {region["id"]: region for region in of_type(entry, "rectanglelabels")}
    brushes = of_type(entry, "brushlabels")
    found = sorted(region["value"]["brushlabels"][0] for region in brushes)
    assert found == ["blue square", "red circle"]
    for brush in brushes:
        box = boxes[brush["parentID"]]
        [label] = brush["value"]["brushlabels"]
        assert box["value"]["rectanglelabels"] == [label]
        assert (brush["original_width"], brush["original_height"]) == wh
        assert iou(pixels(brush), truth(label, wh)) > 0.9


def test_a_prompt_gets_boxes_and_masks(service: Service) -> None:
    [entry] = service.predict(
        SCENE, context=[typed("red circle . blue square")], config=config("BrushLabels")
    )
    check(entry)


def test_every_shape_in_bulk_is_accepted_by_label_studio_s_own_validation(
    service: Service,
) -> None:
    xml = config("BrushLabels", "PolygonLabels", "BitmaskLabels", "VectorLabels")
    entries = service.predict(*fresh(3), config=xml)
    for entry in entries:
        check(entry)
        assert {region["type"] for region in entry["result"]} == {
            "rectanglelabels",
            "brushlabels",
            "polygonlabels",
            "bitmasklabels",
            "vectorlabels",
        }
        wanted = {key: entry[key] for key in ("result", "score", "model_version")}
        assert LabelInterface(xml).validate_prediction(wanted, return_errors=True) == []  # type: ignore[no-untyped-call]


def test_masks_without_boxes(service: Service) -> None:
    [entry] = service.predict(SCENE, config=config("BrushLabels", boxes=False))
    assert {region["type"] for region in entry["result"]} == {"brushlabels"}
    assert len(entry["result"]) == 2


@pytest.mark.parametrize("tag", ["BrushLabels", "PolygonLabels", "BitmaskLabels", "VectorLabels"])
def test_masks_that_were_accepted_are_not_suggested_again(service: Service, tag: str) -> None:
    only_masks = config(tag, boxes=False)
    [first] = service.predict(SCENE, context=[typed("red circle")], config=only_masks)
    [accepted] = first["result"]
    extended = [accepted, typed("red circle . blue square")]
    [second] = service.predict(SCENE, context=extended, config=only_masks)
    [added] = second["result"]
    assert added["value"][tag.lower()] == ["blue square"]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_masks_are_upright_as_the_page_shows_the_picture(
    service: Service, orientation: int
) -> None:
    turns = {1: 0, 3: 180, 6: 90, 8: 270}[orientation]
    stored = scene().rotate(turns, expand=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = data_uri(encoded(stored, "JPEG", quality=95, exif=exif), "image/jpeg")
    [entry] = service.predict(picture, config=config("BrushLabels"))
    check(entry)


@pytest.mark.parametrize("wh", [(64, 64), (160, 120), (1500, 1125), (2000, 700)])
def test_masks_have_the_size_of_the_picture(service: Service, wh: tuple[int, int]) -> None:
    picture = data_uri(encoded(scene(wh)))
    [entry] = service.predict(picture, config=config("BrushLabels"))
    for brush in of_type(entry, "brushlabels"):
        [label] = brush["value"]["brushlabels"]
        assert pixels(brush).shape == wh[::-1]
        assert iou(pixels(brush), truth(label, wh)) > 0.85


def test_masks_in_tiles_lie_in_the_whole_picture(guarded: Service) -> None:
    """The application `guarded` cuts pictures into tiles of 700 pixels, and asks for 0.99."""
    xml = config("BrushLabels").replace(
        "<RectangleLabels", '<RectangleLabels model_score_threshold="0.3"'
    )
    wh = (1600, 1200)
    [entry] = guarded.predict(data_uri(encoded(scene(wh))), config=xml)
    brushes = of_type(entry, "brushlabels")
    assert brushes
    for brush in brushes:
        [label] = brush["value"]["brushlabels"]
        assert iou(pixels(brush), truth(label, wh)) > 0.9


def test_the_pictures_of_a_list(service: Service) -> None:
    body = {
        "tasks": [{"id": 1, "data": {"pages": [SCENE, data_uri(encoded(scene((320, 240))))]}}],
        "label_config": config("BrushLabels", image='valueList="$pages"'),
    }
    [entry] = service.post("/predict", body).json()["results"]
    brushes = of_type(entry, "brushlabels")
    assert sorted(brush["item_index"] for brush in brushes) == [0, 0, 1, 1]
    widths = {(brush["item_index"], brush["original_width"]) for brush in brushes}
    assert widths == {(0, 640), (1, 320)}


def click(x: float, y: float, label: str = "red circle", **entry: Any) -> dict[str, Any]:
    value = {"x": x / 6.4, "y": y / 4.8, "width": 0.2, "keypointlabels": [label]}
    base = {"type": "keypointlabels", "from_name": "kp", "to_name": "image", "value": value}
    return base | {"is_positive": True} | entry


def test_clicks_get_the_mask_and_the_box_of_the_object(service: Service) -> None:
    [entry] = service.predict(SCENE, context=[click(140, 140)], config=config("BrushLabels"))
    box, brush = entry["result"]
    assert (box["type"], brush["type"]) == ("rectanglelabels", "brushlabels")
    assert iou(pixels(brush), truth("red circle")) > 0.8
    rows, columns = np.nonzero(pixels(brush))
    assert box["value"]["x"] == pytest.approx(columns.min() / 6.4, abs=0.01)
    assert box["value"]["height"] == pytest.approx((rows.max() + 1 - rows.min()) / 4.8, abs=0.01)
    more = [click(140, 140), click(100, 170), click(300, 300, is_positive=False)]
    [refined] = service.predict(SCENE, context=more, config=config("BrushLabels"))
    assert iou(pixels(refined["result"][1]), truth("red circle")) > 0.8


def test_a_drawn_box_is_segmented(service: Service) -> None:
    value = {"x": 58, "y": 40, "width": 31, "height": 45, "rotation": 0}
    rectangle = {
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "value": value | {"rectanglelabels": ["blue square"]},
    }
    [entry] = service.predict(SCENE, context=[rectangle], config=config("PolygonLabels"))
    box, polygon = entry["result"]
    assert polygon["value"]["polygonlabels"] == ["blue square"]
    left, top = box["value"]["x"] * 6.4, box["value"]["y"] * 4.8
    assert (left, top) == pytest.approx(SQUARE[:2], abs=6)


def test_bad_pictures_and_clicks_cost_their_neighbours_nothing(service: Service) -> None:
    broken = data_uri(b"\x89PNG\r\n\x1a\n broken")
    good, bad, again = service.predict(fresh()[0], broken, fresh()[0], config=config("BrushLabels"))
    check(good)
    check(again)
    assert bad["error_type"] == "ImageDecodeError"
    [refused] = service.predict(SCENE, context=[click(1, 1, "zebra")], config=config("BrushLabels"))
    assert refused["error"].startswith("The selected label 'zebra' is in no control tag")


def test_the_model_version_names_one_service_and_health_names_the_segmenter(
    service: Service,
) -> None:
    [with_masks] = service.predict(SCENE, config=config("BrushLabels"))
    [without] = service.predict(SCENE, config=config())
    assert with_masks["model_version"] == without["model_version"]
    assert service.get("/health").json()["segmenter"]["name"] == "demo-segmenter"


def test_a_large_picture_has_small_masks_in_the_answer(service: Service) -> None:
    file = io.BytesIO()
    scene((4000, 3000)).save(file, "JPEG", quality=90)
    picture = data_uri(file.getvalue(), "image/jpeg")
    [entry] = service.predict(picture, config=config("BrushLabels"))
    brushes = of_type(entry, "brushlabels")
    assert len(brushes) == 2
    assert all(len(brush["value"]["rle"]) < 40_000 for brush in brushes)
    assert iou(pixels(brushes[0]), truth(brushes[0]["value"]["brushlabels"][0], (4000, 3000))) > 0.9
