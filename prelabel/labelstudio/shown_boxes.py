"""Boxes that a page shows -> a task with a prediction, as Label Studio imports it.

The control tags are those of `config_text`: `label` for boxes and `mask` for outlines on `image`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from prelabel.boxes import px_to_pct
from prelabel.labelstudio.predictions import to_prediction
from prelabel.labelstudio.regions import PCT_DECIMALS, RegionFrame
from prelabel.labelstudio.responses import Region, RegionValue
from prelabel.types import Floats


@dataclass(frozen=True, slots=True)
class LabelledBox:
    """A box with its label and its outlines.

    Attributes:
        box_xyxy: Left, top, right and bottom in pixels of the upright picture.
        label: Its label, None without one.
        score: Its score, 0..1.
        phrase: The phrase that was searched for; stands as a note on a box without a label.
        rings_xy: The outlines of its mask, [n, 2] pixels each.
    """

    box_xyxy: tuple[float, float, float, float]
    label: str | None
    score: float
    phrase: str = ""
    rings_xy: tuple[Floats, ...] = ()


def task_of_boxes(
    image: str, image_wh: tuple[int, int], boxes: Sequence[LabelledBox], model_version: str
) -> dict[str, object]:
    """Return a task with one prediction.

    Args:
        image: Address or name of the picture.
        image_wh: Width and height of the upright picture in pixels.
        boxes: The boxes, best first.
        model_version: The version that the prediction carries.
    """
    regions = [region for box in boxes for region in _regions(box, image_wh)]
    prediction = to_prediction(regions, model_version)
    return {"data": {"image": image}, "predictions": [prediction]}


def _regions(box: LabelledBox, image_wh: tuple[int, int]) -> Iterator[Region]:
    frame = RegionFrame("image", image_wh, None, box.score)
    pct = px_to_pct(np.array([box.box_xyxy], np.float64), image_wh).clip(0, 100)
    box_pct = pct.round(PCT_DECIMALS)[0].tolist()
    [region] = frame.box_entries(box_pct, "label", None, box.label, box.phrase)
    yield region
    for ring in box.rings_xy:
        points = (ring / image_wh * 100).clip(0, 100).round(PCT_DECIMALS).tolist()
        outline = RegionValue(points=points, closed=True)
        for entry in frame.entries("polygon", "mask", None, box.label, outline):
            entry["parentID"] = region["id"]
            yield entry
