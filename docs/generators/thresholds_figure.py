"""Write the pictures of docs/user/thresholds.md: the demo model's boxes at three values each.

`make docs-pictures` draws them. They are kept in git together with the numbers that they show
(numbers.json), which a test computes again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from prelabel.boxes import nms
from prelabel.checkpoints.cards import load_card, model_folder
from prelabel.cli.drawing import DrawnBox, draw_boxes
from prelabel.detection.scoring import select_detections
from prelabel.engines import load_engine
from prelabel.settings import DetectionSettings
from prelabel.types import RawDetections, Thresholds
from tests.support.paths import ROOT

FOLDER = ROOT / "docs" / "user" / "thresholds"
NUMBERS = FOLDER / "numbers.json"
_WIDTH_PX = 480
_MAX_BOXES = 100
_DEFAULTS = DetectionSettings()


@dataclass(frozen=True)
class Panel:
    """A picture of the demo, searched for phrases, and the thresholds that are applied."""

    name: str
    picture: str
    phrases: tuple[str, ...]
    box: float = _DEFAULTS.box_threshold
    text: float = _DEFAULTS.text_threshold
    nms: float = _DEFAULTS.nms_iou_threshold


_STREET = Panel(
    "", "street.jpg", ("helicopter", "traffic light", "fire truck", "ambulance", "bicycle", "train")
)
_SHAPES = Panel(
    "", "shapes_twins.png", ("white triangle", "orange ring", "green circle", "orange star")
)
_WINTER = Panel("", "winter.jpg", ("snowman", "penguin", "fox", "pine tree"))
PANELS = (
    *(replace(_STREET, name=f"box-{value}", box=value, text=0.0) for value in (0.05, 0.3, 0.5)),
    *(replace(_SHAPES, name=f"text-{value}", text=value) for value in (0.25, 0.4, 0.47)),
    *(replace(_WINTER, name=f"nms-{value}", nms=value) for value in (0.7, 0.95, 1.0)),
)


def computed() -> dict[str, list[tuple[str, float]]]:
    """Return the phrase and the score of each box of each panel, best first."""
    return {name: [(box.label, score) for box, score in boxes] for name, boxes in _found().items()}


def _found() -> dict[str, list[tuple[DrawnBox, float]]]:
    card = load_card("demo")
    engine = load_engine(card, model_folder(card, "models"), device="cpu", precision="float32")
    raw: dict[str, RawDetections] = {}
    for panel in PANELS:
        if panel.picture not in raw:
            items = engine.prepare(np.asarray(_picture(panel)), panel.phrases)
            [raw[panel.picture]] = engine.detect(items)
    return {panel.name: _boxes(panel, raw[panel.picture]) for panel in PANELS}


def _boxes(panel: Panel, raw: RawDetections) -> list[tuple[DrawnBox, float]]:
    thresholds = Thresholds(panel.box, panel.text)
    found = select_detections([raw], thresholds, _picture(panel).size)
    kept = nms(found.boxes_xyxy, found.scores, found.phrase_index, panel.nms, _MAX_BOXES)
    boxes = []
    for row in kept:
        left, top, right, bottom = (float(value) for value in found.boxes_xyxy[row])
        label, score = panel.phrases[found.phrase_index[row]], float(found.scores[row])
        boxes.append((DrawnBox((left, top, right, bottom), label, f"{label} {score:.2f}"), score))
    return boxes


def _picture(panel: Panel) -> Image.Image:
    with Image.open(ROOT / "examples" / "demo" / panel.picture) as picture:
        return picture.convert("RGB")


def _draw(panel: Panel, boxes: Sequence[DrawnBox]) -> None:
    drawn = draw_boxes(_picture(panel), boxes)
    drawn.thumbnail((_WIDTH_PX, _WIDTH_PX), Image.Resampling.LANCZOS)
    drawn.save(FOLDER / f"{panel.name}.webp", quality=82, method=6)


def main() -> None:
    """Write the pictures and their numbers."""
    FOLDER.mkdir(exist_ok=True)
    numbers = {}
    for panel, boxes in zip(PANELS, _found().values(), strict=True):
        _draw(panel, [box for box, _ in boxes])
        numbers[panel.name] = [[box.label, round(score, 3)] for box, score in boxes]
    NUMBERS.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
