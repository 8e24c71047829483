"""Evaluation of a checkpoint in the service's engines, on scenes that training never made.

`python -m training.evaluate` prints the table of the model's README. With `--engines` it compares
the boxes of both engines instead.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from prelabel.boxes import iou_xyxy, nms
from prelabel.checkpoints.cards import ModelCard, load_card, model_folder
from prelabel.detection.scoring import select_detections
from prelabel.engines import load_engine
from prelabel.engines.base import AnyEngine
from prelabel.settings import AppSettings
from prelabel.types import Detections, Ints, RawDetections, Thresholds
from training import WORK, backgrounds
from training.icons import Role, Sprites, icon_sets, load_sprites
from training.scenes import Scene, SceneKind, SceneMaker
from training.world import World, load_world

SCENES = 500
_SEED = 7_000_000  # of scenes; the seeds of training are small
_SHORTER_SIDES = (96, 640)  # pixels, least and most
_SQUARISH, _WIDE = 4 / 3, 2.0  # longest ratio of width by height, or of height by width
_MIN_IOU = 0.5  # of a box with an object that it counts for
_SAME_PX = 0.5  # largest distance of equal boxes' edges
_EVERYTHING = Thresholds(box=0.0, text=0.0)
_DEFAULTS = AppSettings().detection
_DEFAULT_THRESHOLDS = Thresholds(box=_DEFAULTS.box_threshold, text=_DEFAULTS.text_threshold)
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


@dataclass(frozen=True, slots=True)
class MeasuredSet:
    """A set of scenes to measure.

    Attributes:
        title: Title of its row in the table.
        kind: The distribution of scenes.
        wide: Pictures of 2:1 or 1:2, instead of up to 4:3 or 3:4.
        styles: The icon sets: those of training, or held-out ones.
    """

    title: str
    kind: SceneKind
    wide: bool = False
    styles: Role = "train"


def measured_sets(world: World) -> dict[str, MeasuredSet]:
    """Return the sets of scenes by name."""
    things = SceneKind(things=1.0, bare_shapes=0.0)
    pairs = SceneKind(things=0.0, bare_shapes=0.0)
    return {
        "seen": MeasuredSet("things, drawing styles seen in training", things),
        "styles": MeasuredSet("things, drawing styles never seen", things, styles="held_out"),
        "pairs": MeasuredSet("coloured shapes, pairs seen in training", pairs),
        "unseen_pairs": MeasuredSet(
            "coloured shapes, pairs never seen",
            replace(pairs, pairs=world.held_out_pairs, distractors=world.seen_pairs),
        ),
        "repeated": MeasuredSet("several of the same thing", replace(things, repeated=1.0)),
        "wide": MeasuredSet("pictures of 2:1 and 1:2", SceneKind(), wide=True),
        "backgrounds": MeasuredSet(
            "backgrounds never seen", SceneKind(backgrounds=backgrounds.HELD_OUT)
        ),
        "absent": MeasuredSet("prompts of nothing that is there", SceneKind(nothing=1.0)),
    }


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


class Scenes:
    """Makes the scenes of a set, the same ones in each call."""

    def __init__(
        self, measured: MeasuredSet, world: World, sprites: Sprites, seed: int = _SEED
    ) -> None:
        self._make = SceneMaker(world, sprites, measured.kind)
        self._wide = measured.wide
        self._seed = seed

    def __call__(self, count: int) -> Iterator[Scene]:
        """Yield the first `count` scenes."""
        for number in range(count):
            yield self._make((self._seed, number), self._hw(number))

    def _hw(self, number: int) -> tuple[int, int]:
        rng = random.Random(f"{self._seed} {number}")
        side = math.exp(rng.uniform(*map(math.log, _SHORTER_SIDES)))
        turn = rng.choice((-1, 1)) if self._wide else rng.uniform(-1, 1)
        ratio = (_WIDE if self._wide else _SQUARISH) ** turn
        return round(side * max(1, 1 / ratio)), round(side * max(1, ratio))


def load_scenes(measured: MeasuredSet, world: World, work: Path, seed: int = _SEED) -> Scenes:
    """Return the scenes of a set. Drawings are fetched and rendered if `work` lacks them."""
    needed = icon_sets(measured.styles) if measured.kind.things else []
    return Scenes(measured, world, load_sprites(world, work / "icons", needed), seed)


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
    return _subset(boxes, selected)


def tally(engine: AnyEngine, scenes: Iterable[Scene]) -> Tally:
    """Detect on every scene, and count correct and false boxes."""
    counts = Tally()
    for scene in scenes:
        raw = detect(engine, scene)
        all_boxes = answered_boxes(raw, scene, _EVERYTHING)
        correct = correct_boxes(all_boxes, scene)
        counts.matches += zip(all_boxes.scores.tolist(), correct, strict=True)
        correct = correct_boxes(answered_boxes(raw, scene, _DEFAULT_THRESHOLDS), scene)
        counts.found += sum(correct)
        counts.false_boxes += len(correct) - sum(correct)
        counts.objects += len(scene.boxes)
        counts.scenes += 1
    return counts


def correct_boxes(boxes: Detections, scene: Scene) -> list[bool]:
    """Return for each box, best first, True if it is the first on an object of its phrase.

    This is COCO's rule: a second box on the same object is false.
    """
    overlaps = iou_xyxy(boxes.boxes_xyxy, scene.boxes)
    free = np.ones(len(scene.boxes), dtype=bool)
    correct = []
    for overlap, phrase in zip(overlaps, boxes.phrase_index, strict=True):
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
            _sorted_by_place(answered_boxes(detect(engine, scene), scene, _DEFAULT_THRESHOLDS))
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
    return _subset(boxes, order)


def _subset(boxes: Detections, indices: Ints) -> Detections:
    return replace(
        boxes,
        boxes_xyxy=boxes.boxes_xyxy[indices],
        scores=boxes.scores[indices],
        phrase_index=boxes.phrase_index[indices],
    )


def load(card: ModelCard, folder: Path, engine: str) -> AnyEngine:
    """Load a checkpoint in one of the engines, "huggingface" or "groundingdino", on the CPU."""
    card = card.model_copy(update={"engine": engine})
    return load_engine(card, folder, device="cpu", precision="float32")


def main() -> None:
    """Print the figures of each set as a table, or compare the engines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo", help="name of a model, or its card (.yaml)")
    parser.add_argument("--scenes", type=int, default=SCENES, help="scenes of each set")
    parser.add_argument("--sets", nargs="+", help="measure these only: seen, styles, pairs, ...")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the icons")
    parser.add_argument("--engines", action="store_true", help="compare the two engines instead")
    arguments = parser.parse_args()
    card = load_card(arguments.model)
    folder, world = model_folder(card, "models"), load_world()
    names = ("huggingface", "groundingdino") if arguments.engines else (card.engine,)
    engines = [load(card, folder, name) for name in names]
    columns = _AGREEMENT_COLUMNS if arguments.engines else _TALLY_COLUMNS
    print(f"| scenes | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for name, measured in measured_sets(world).items():
        if arguments.sets and name not in arguments.sets:
            continue
        scenes = load_scenes(measured, world, arguments.work)(arguments.scenes)
        if arguments.engines:
            counts = agreement(engines[0], engines[1], scenes)
            cells = [str(counts.boxes), str(counts.differing), f"{counts.furthest_px:.4f}"]
        else:
            figures = tally(engines[0], scenes).figures().values()
            cells = ["-" if math.isnan(figure) else f"{figure:.3f}" for figure in figures]
        print(f"| {measured.title} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
