"""Label Studio's validation of predictions, asked before the import."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, cast

import pytest

from prelabel.labelstudio.import_check import ImportCheck
from prelabel.labelstudio.responses import Prediction

CONFIG = """<View><Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image"><Label value="cat"/></RectangleLabels>
  <BrushLabels name="mask" toName="image"><Label value="cat"/></BrushLabels></View>"""
BOX = {"x": 0.0, "y": 1.5, "width": 100.0, "height": 4.5, "rotation": 0}


def prediction(value: dict[str, Any], **region: Any) -> Prediction:
    place = {"id": "1", "from_name": "label", "to_name": "image", "type": "rectanglelabels"}
    size = {"original_width": 640, "original_height": 480, "image_rotation": 0, "score": 0.5}
    result = [{**place, **size, "value": value, **region}]
    return cast("Prediction", {"result": result, "score": 0.5, "model_version": "demo-1"})


def test_boxes_and_masks_pass_and_an_empty_prediction() -> None:
    check = ImportCheck(CONFIG)
    mask = {"format": "rle", "rle": [0, 1, 255] * 10_000, "brushlabels": ["cat"]}
    assert check(prediction(BOX | {"rectanglelabels": ["cat"]})) is None
    assert check(prediction(mask, from_name="mask", type="brushlabels")) is None
    assert check({"result": [], "score": 0.0, "model_version": "demo-1"}) is None


@pytest.mark.parametrize(
    ("value", "region", "sentence"),
    [
        ({"rectanglelabels": ["dog"]}, {}, "Invalid value for control 'label'"),
        ({"rectanglelabels": ["cat"], "x": 101.0}, {}, "x 101.0 out of bounds"),
        ({"rectanglelabels": ["cat"]}, {"from_name": "other"}, "'other' not found"),
        ({"rectanglelabels": ["dog" * 10_000]}, {}, "Invalid value for control 'label'"),
    ],
)
def test_what_would_be_left_out_is_a_sentence(
    value: dict[str, Any], region: dict[str, Any], sentence: str
) -> None:
    fault = ImportCheck(CONFIG)(prediction(BOX | value, **region))
    assert fault is not None
    assert fault.startswith("Label Studio would leave the prediction out (Region 0: ")
    assert sentence in fault
    assert fault.endswith("--retry-failed.")
    assert len(fault) < 500


def test_the_sdk_is_imported_by_the_check_alone() -> None:
    code = """
import sys
import prelabel.cli.annotate, prelabel.labelstudio.import_check
assert "label_studio_sdk" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
