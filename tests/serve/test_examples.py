"""The example pictures through the running service: what a new user sees first."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prelabel.boxes import iou_xyxy
from tests.support.paths import ROOT
from tests.support.scenes import data_uri
from tests.support.service_client import Service

DEMO = ROOT / "examples" / "demo"
CASES = json.loads((DEMO / "cases.json").read_text())


def corners(box: dict[str, float]) -> tuple[float, ...]:
    return (box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"])


def matches(truth: Any, regions: Any) -> Any:
    """Return the number of true boxes that have a region of their own: IoU >= 0.5, same label."""
    left = list(regions)
    for box in truth:
        for region in left:
            pair = [np.array([corners(one)]) for one in (box, region["value"])]
            same_label = region["value"]["rectanglelabels"] == [box["label"]]
            if same_label and iou_xyxy(*pair)[0, 0] >= 0.5:
                left.remove(region)
                break
    return len(regions) - len(left)


SPELLINGS: dict[str, Callable[[str], str]] = {
    "with spaces": str,
    "with underscores": lambda name: name.replace(" ", "_"),
    "with hyphens": lambda name: name.replace(" ", "-"),
    "in camel case": lambda name: "".join(map(str.capitalize, name.split())),
    "written together": lambda name: name.replace(" ", ""),
}


def found_of_several_words(service: Service, spell: Callable[[str], str]) -> tuple[int, int]:
    """Return how many objects whose name has several words are found, and how many there are."""
    found = there = 0
    for case in CASES:
        wanted = [
            box | {"label": spell(box["label"])} for box in case["boxes"] if " " in box["label"]
        ]
        if not wanted:
            continue
        tags = "".join(f'<Label value="{spell(label)}"/>' for label in case["labels"])
        config = (
            '<View><Image name="image" value="$image"/>'
            f'<RectangleLabels name="label" toName="image">{tags}</RectangleLabels></View>'
        )
        [entry] = service.predict(data_uri((DEMO / case["image"]).read_bytes()), config=config)
        found += matches(wanted, entry["result"])
        there += len(wanted)
    return found, there


def test_labels_are_found_however_their_words_are_joined(service: Service) -> None:
    figures = {name: found_of_several_words(service, spell) for name, spell in SPELLINGS.items()}
    assert figures["with spaces"] == (17, 18)
    assert set(figures.values()) == {figures["with spaces"]}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["image"])
def test_prelabel_predict_finds_the_drawn_things(
    service: Service, case: dict[str, Any], tmp_path: Path
) -> None:
    prediction = tmp_path / "prediction.json"
    command = [Path(sys.executable).with_name("prelabel"), "predict", DEMO / case["image"]]
    options: list[str | Path] = ["--prompt", case["prompt"], "--url", service.url]
    outputs = ["--json", prediction, "--output", tmp_path / "drawn.png"]
    subprocess.run([*command, *options, *outputs], check=True, timeout=120, capture_output=True)  # type: ignore[list-item]
    regions = json.loads(prediction.read_text())["result"]
    found = matches(case["boxes"], regions)
    assert found >= 0.8 * len(case["boxes"])
    assert len(regions) - found <= 1
