"""The demo pictures with their true boxes, and the rule by which a box counts as found."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from label_studio_sdk.label_interface.interface import LabelInterface

from prelabel.boxes import iou_xyxy
from prelabel.types import Floats
from tests.support.paths import ROOT

DEMO = ROOT / "examples/demo"
IOU = 0.5

LabelledBox = tuple[str, float, float, float, float]  # label, x, y, width, height in percent


@dataclass(frozen=True)
class Case:
    """A picture, a prompt for it, and the boxes that the prompt should give."""

    image: Path
    prompt: str
    labels: tuple[str, ...]
    boxes: tuple[LabelledBox, ...]


def load_cases() -> list[Case]:
    """All demo pictures, in the order of cases.json."""
    return [
        Case(
            DEMO / case["image"],
            case["prompt"],
            tuple(case["labels"]),
            tuple(_labelled(box["label"], box) for box in case["boxes"]),
        )
        for case in json.loads((DEMO / "cases.json").read_text())
    ]


def labeling_config(labels: Iterable[str], controls: str = "") -> str:
    """Return the tutorial's labeling config with other labels and additional control tags."""
    values = "\n".join(f'    <Label value="{label}"/>' for label in labels)
    return f"""<View>
  <Style>.lsf-main-content.lsf-requesting .prompt::before {{ content: ' loading...' }}</Style>
  <View className="prompt">
    <Header value="Enter a prompt to detect objects in the image:"/>
    <TextArea name="prompt" toName="image" editable="true" rows="2" maxSubmissions="1"
              showSubmitButton="true"/>
  </View>
  {controls}
  <Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image">
{values}
  </RectangleLabels>
</View>"""


def segmentation_config(tag: str, labels: Iterable[str], controls: str = "") -> str:
    """Return the tutorial's config for segmentation, with masks drawn by a tag such as BrushLabels.

    It has the labels of the boxes again in the control tag "label2".
    """
    values = "".join(f'<Label value="{label}"/>' for label in labels)
    masks = f'<{tag} name="label2" toName="image">{values}</{tag}>'
    return f"{labeling_config(labels, controls).removesuffix('</View>')}{masks}</View>"


@dataclass(frozen=True)
class Demo:
    """The demo pictures and a labeling config that knows all their labels."""

    cases: list[Case]

    @cached_property
    def config(self) -> str:
        return labeling_config(sorted({label for case in self.cases for label in case.labels}))

    def overlapping_pair(self) -> tuple[Case, Case]:
        """Two pictures: the first's prompt asks for some, and not all, objects of the second."""
        for first, second in permutations(self.cases, 2):
            there = {label for label, *_ in second.boxes}
            if there & set(first.labels) and there - set(first.labels):
                return first, second
        raise AssertionError("No two demo pictures share a label.")


def boxes_of(result: Iterable[dict[str, Any]]) -> list[LabelledBox]:
    """The labelled boxes of a prediction's or an annotation's result."""
    return [
        _labelled(entry["value"]["rectanglelabels"][0], entry["value"])
        for entry in result
        if entry["type"] == "rectanglelabels"
    ]


def found(truth: Iterable[LabelledBox], boxes: Iterable[LabelledBox]) -> list[LabelledBox]:
    """Return the true boxes that a box of the same label covers with an IoU of at least `IOU`."""
    boxes = list(boxes)
    return [box for box in truth if any(_same(box, other) for other in boxes)]


def complaints(config: str, prediction: dict[str, Any]) -> list[str]:
    """Return the errors that Label Studio's own validation finds in a prediction."""
    wanted = {key: prediction[key] for key in ("result", "score", "model_version")}
    referee = LabelInterface(config)
    return list(referee.validate_prediction(wanted, return_errors=True))  # type: ignore[no-untyped-call]


def _labelled(label: str, box: dict[str, float]) -> LabelledBox:
    return label, box["x"], box["y"], box["width"], box["height"]


def _same(a: LabelledBox, b: LabelledBox) -> bool:
    return a[0] == b[0] and bool(iou_xyxy(_corners(a), _corners(b))[0, 0] >= IOU)


def _corners(box: LabelledBox) -> Floats:
    _, x, y, width, height = box
    return np.array([[x, y, x + width, y + height]])
