"""Evaluation of a checkpoint in the service's engines, on scenes that training never made.

`python -m training.evaluate` prints the table of the model's README. With `--engines` it compares
the boxes of both engines instead.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from prelabel.boxes import iou_xyxy, nms
from prelabel.checkpoints.cards import ModelCard, load_card, model_folder
from prelabel.detection.scoring import select_detections
from prelabel.engines import load_engine
from prelabel.engines.base import AnyEngine
from prelabel.settings import AppSettings
from prelabel.types import Detections, Floats, Ints, RawDetections, Thresholds
from training.held_out import (
    add_arguments,
    chosen,
    figure_cells,
    load_scenes,
    measured_sets,
    print_table,
)
from training.scenes import Scene
from training.world import load_world

_MIN_IOU = 0.5  # of a box with an object that it counts for
_SAME_PX = 0.5  # largest distance of equal boxes' edges
_EVERYTHING = Thresholds(box=0.0, text=0.0)
_DEFAULTS = AppSettings().detection
DEFAULT_THRESHOLDS = Thresholds(box=_DEFAULTS.box_threshold, text=_DEFAULTS.text_threshold)
# Set to the figure that is measured during training.
_QUICK = {
    "seen": "ap50",
    "styles": "ap50",
    "unseen_pairs": "ap50",
    "wide": "ap50",
    "absent": "false_boxes",
}
_QUICK_SCENES = 60
_TALLY_COLUMNS = ("AP50", "recall", "false boxes a picture")
_AGREEMENT_COLUMNS = ("boxes", "scenes that differ", "furthest apart, pixels")


@dataclass(slots=True)
class Tally:
    """Counts over scenes.

    Attributes:
        objects: Objects that the prompts name.
        scenes: Scenes.
        matches: Score of every box, and True if it is correct.
        found: Objects with a correct box at the default thresholds.
        false_boxes: Other boxes at the default thresholds.
    """

    objects: int = 0
    scenes: int = 0
    matches: list[tuple[float, bool]] = field(default_factory=list)
    found: int = 0
    false_boxes: int = 0

    @property
    def ap50(self) -> float:
        """Average precision at IoU 0.5 of all phrases together: the area under the envelope."""
        if not self.objects:
            return math.nan
        by_score = sorted(self.matches, key=lambda match: -match[0])
        correct = np.array([is_correct for _, is_correct in by_score])
        precision = np.cumsum(correct) / np.arange(1, len(correct) + 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        return float((envelope * correct).sum() / self.objects)

    def figures(self) -> dict[str, float]:
        """Return the figures of the table: "ap50", "recall" and "false_boxes" per picture."""
        return {
            "ap50": round(self.ap50, 3),
            "recall": round(self.found / self.objects, 3) if self.objects else math.nan,
            "false_boxes": round(self.false_boxes / self.scenes, 3),
        }


def detect(engine: AnyEngine, scene: Scene) -> list[RawDetections]:
    """Run the engine on a scene. Returns its results before any threshold."""
    return engine.detect(engine.prepare(scene.image, scene.phrases))


def answered_boxes(
    raw: Sequence[RawDetections], scene: Scene, thresholds: Thresholds
) -> Detections:
    """Return the boxes that the service would answer, best score first."""
    height, width = scene.image.shape[:2]
    boxes = select_detections(raw, thresholds, (width, height))
    selected = nms(
        boxes.boxes_xyxy,
        boxes.scores,
        boxes.phrase_index,
        _DEFAULTS.nms_iou_threshold,
        _DEFAULTS.max_boxes,
    )
    return boxes.take(selected)


def tally(engine: AnyEngine, scenes: Iterable[Scene]) -> Tally:
    """Detect on every scene, and count correct and false boxes."""
    counts = Tally()
    for scene in scenes:
        raw = detect(engine, scene)
        all_boxes = answered_boxes(raw, scene, _EVERYTHING)
        correct = correct_boxes(all_boxes, scene)
        counts.matches += zip(all_boxes.scores.tolist(), correct, strict=True)
        correct = correct_boxes(answered_boxes(raw, scene, DEFAULT_THRESHOLDS), scene)
        counts.found += sum(correct)
        counts.false_boxes += len(correct) - sum(correct)
        counts.objects += len(scene.boxes)
        counts.scenes += 1
    return counts


def correct_boxes(boxes: Detections, scene: Scene) -> list[bool]:
    """Return for each box, best first, True if it is the first on an object of its phrase."""
    return first_on_objects(iou_xyxy(boxes.boxes_xyxy, scene.boxes), boxes.phrase_index, scene)


def first_on_objects(overlaps: Floats, phrase_index: Ints, scene: Scene) -> list[bool]:
    """Return for each box or mask True if it is the first on an object of its phrase.

    This is COCO's rule: a second box on the same object is false.

    Args:
        overlaps: [N, objects], the IoU of each box or mask with each object, best score first.
        phrase_index: [N], the phrase of each.
        scene: The objects.
    """
    free = np.ones(len(scene.boxes), dtype=bool)
    correct = []
    for overlap, phrase in zip(overlaps, phrase_index, strict=True):
        candidates = np.where(free & (scene.labels == phrase), overlap, 0)
        best = int(candidates.argmax()) if len(candidates) else -1
        is_correct = best >= 0 and candidates[best] >= _MIN_IOU
        if is_correct:
            free[best] = False
        correct.append(bool(is_correct))
    return correct


def quick_measures(folder: Path, work: Path) -> dict[str, float]:
    """Measure a few sets on few scenes, for the curve of a training run."""
    engine = load(load_card(str(folder / "demo.yaml")), folder, "huggingface")
    world = load_world()
    sets = measured_sets(world)
    return {
        name: tally(engine, load_scenes(sets[name], world, work)(_QUICK_SCENES)).figures()[figure]
        for name, figure in _QUICK.items()
    }


@dataclass(slots=True)
class Agreement:
    """Counts of two engines' boxes on the same scenes.

    Attributes:
        boxes: Boxes of the first engine.
        furthest_px: Largest distance in pixels of the edges of equal boxes.
        differing: Scenes with different labels, or with boxes more than half a pixel apart.
    """

    boxes: int = 0
    furthest_px: float = 0.0
    differing: int = 0


def agreement(one: AnyEngine, other: AnyEngine, scenes: Iterable[Scene]) -> Agreement:
    """Compare the boxes of two engines at the default thresholds."""
    counts = Agreement()
    for scene in scenes:
        first, second = (
            _sorted_by_place(answered_boxes(detect(engine, scene), scene, DEFAULT_THRESHOLDS))
            for engine in (one, other)
        )
        counts.boxes += len(first.scores)
        if first.phrase_index.tolist() != second.phrase_index.tolist():
            counts.differing += 1
        elif len(first.scores):
            apart = float(np.abs(first.boxes_xyxy - second.boxes_xyxy).max())
            counts.furthest_px = max(counts.furthest_px, apart)
            counts.differing += apart > _SAME_PX
    return counts


def _sorted_by_place(boxes: Detections) -> Detections:
    """Sort boxes by phrase, then by place.

    Scores of two engines differ in the last digit, so that their order may differ.
    """
    corners = boxes.boxes_xyxy.round().T
    order = np.lexsort((corners[1], corners[0], boxes.phrase_index))
    return boxes.take(order)


def load(card: ModelCard, folder: Path, engine: str) -> AnyEngine:
    """Load a checkpoint in one of the engines, "huggingface" or "groundingdino", on the CPU."""
    card = card.model_copy(update={"engine": engine})
    return load_engine(card, folder, device="cpu", precision="float32")


def main() -> None:
    """Print the figures of each set as a table, or compare the engines."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser, "demo")
    parser.add_argument("--engines", action="store_true", help="compare the two engines instead")
    arguments = parser.parse_args()
    card = load_card(arguments.model)
    folder, world = model_folder(card, "models"), load_world()
    names = ("huggingface", "groundingdino") if arguments.engines else (card.engine,)
    engines = [load(card, folder, name) for name in names]

    def cells(scenes: Iterable[Scene]) -> list[str]:
        if arguments.engines:
            counts = agreement(engines[0], engines[1], scenes)
            return [str(counts.boxes), str(counts.differing), f"{counts.furthest_px:.4f}"]
        return figure_cells(tally(engines[0], scenes).figures().values())

    print_table(
        _AGREEMENT_COLUMNS if arguments.engines else _TALLY_COLUMNS,
        (
            (measured.title, cells(load_scenes(measured, world, arguments.work)(arguments.scenes)))
            for measured in chosen(measured_sets(world), arguments.sets)
        ),
    )


if __name__ == "__main__":
    main()
