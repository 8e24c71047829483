"""Measures a checkpoint as users meet it: through an engine, on scenes that training never made.

`python -m training.evaluate` prints the table of the model's README; `--engines` compares both
engines box by box instead.
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
_SEED = 7_000_000  # of scenes; training's seeds are small
_SHORTER_SIDES = (96, 640)  # pixels
_SQUARISH, _WIDE = 4 / 3, 2.0  # width by height, or the other way round
_IOU = 0.5
_SAME_PX = 0.5
_EVERYTHING = Thresholds(box=0.0, text=0.0)
_DEFAULTS = AppSettings().detection
_DEFAULT_THRESHOLDS = Thresholds(box=_DEFAULTS.box_threshold, text=_DEFAULTS.text_threshold)
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
    """A kind of scenes. wide: 2:1 or 1:2, else up to 4:3; styles: whose drawings."""

    title: str
    kind: SceneKind
    wide: bool = False
    styles: Role = "train"


def measured_sets(world: World) -> dict[str, MeasuredSet]:
    """What is measured, by name."""
    things = SceneKind(things=1.0, bare_shapes=0.0)
    pairs = SceneKind(things=0.0, bare_shapes=0.0)
    return {
        "seen": MeasuredSet("things, drawing styles seen in training", things),
        "styles": MeasuredSet("things, drawing styles never seen", things, styles="held_out"),
        "pairs": MeasuredSet("coloured shapes, pairs seen in training", pairs),
        "unseen_pairs": MeasuredSet(
            "coloured shapes, pairs never seen",
            replace(pairs, pairs=world.held_out_pairs, lures=world.seen_pairs),
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
    """Counts over scenes. matches: score, and whether right, of every box found."""

    objects: int = 0
    scenes: int = 0
    matches: list[tuple[float, bool]] = field(default_factory=list)
    found: int = 0  # objects, at the default thresholds
    false_boxes: int = 0  # at the default thresholds

    @property
    def ap50(self) -> float:
        """Average precision at IoU 0.5, all phrases together: area under the envelope."""
        if not self.objects:
            return math.nan
        right = np.array([ok for _, ok in sorted(self.matches, key=lambda m: -m[0])])
        precision = np.cumsum(right) / np.arange(1, len(right) + 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        return float((envelope * right).sum() / self.objects)

    def figures(self) -> dict[str, float]:
        """The figures of the table."""
        return {
            "ap50": round(self.ap50, 3),
            "recall": round(self.found / self.objects, 3) if self.objects else math.nan,
            "false_boxes": round(self.false_boxes / self.scenes, 3),
        }


class Scenes:
    """The scenes of a set, the same each time."""

    def __init__(
        self, measured: MeasuredSet, world: World, sprites: Sprites, seed: int = _SEED
    ) -> None:
        self._make = SceneMaker(world, sprites, measured.kind)
        self._wide = measured.wide
        self._seed = seed

    def __call__(self, count: int) -> Iterator[Scene]:
        """The first so many."""
        for number in range(count):
            yield self._make((self._seed, number), self._hw(number))

    def _hw(self, number: int) -> tuple[int, int]:
        chance = random.Random(f"{self._seed} {number}")
        side = math.exp(chance.uniform(*map(math.log, _SHORTER_SIDES)))
        turn = chance.choice((-1, 1)) if self._wide else chance.uniform(-1, 1)
        ratio = (_WIDE if self._wide else _SQUARISH) ** turn
        return round(side * max(1, 1 / ratio)), round(side * max(1, ratio))


def load_scenes(measured: MeasuredSet, world: World, work: Path, seed: int = _SEED) -> Scenes:
    """The scenes with their drawings, which are fetched and rendered where `work` lacks them."""
    needed = icon_sets(measured.styles) if measured.kind.things else []
    return Scenes(measured, world, load_sprites(world, work / "icons", needed), seed)


def detect(engine: AnyEngine, scene: Scene) -> list[RawDetections]:
    """What the model says of a scene, before any threshold."""
    return engine.detect(engine.prepare(scene.image, scene.phrases))


def kept_boxes(raw: Sequence[RawDetections], scene: Scene, thresholds: Thresholds) -> Detections:
    """The boxes that the service would answer with, best first."""
    height, width = scene.image.shape[:2]
    boxes = select_detections(raw, thresholds, (width, height))
    kept = nms(
        boxes.boxes_xyxy,
        boxes.scores,
        boxes.phrase_index,
        _DEFAULTS.nms_iou_threshold,
        _DEFAULTS.max_boxes,
    )
    return _taken(boxes, kept)


def tally(engine: AnyEngine, scenes: Iterable[Scene]) -> Tally:
    """Detect on every scene and hold the boxes against what was drawn."""
    counts = Tally()
    for scene in scenes:
        raw = detect(engine, scene)
        every = kept_boxes(raw, scene, _EVERYTHING)
        counts.matches += zip(every.scores.tolist(), right_boxes(every, scene), strict=True)
        right = right_boxes(kept_boxes(raw, scene, _DEFAULT_THRESHOLDS), scene)
        counts.found += sum(right)
        counts.false_boxes += len(right) - sum(right)
        counts.objects += len(scene.boxes)
        counts.scenes += 1
    return counts


def right_boxes(found: Detections, scene: Scene) -> list[bool]:
    """Whether each box, best first, is the first one on an object of its phrase (COCO's rule)."""
    overlaps = iou_xyxy(found.boxes_xyxy, scene.boxes)
    free = np.ones(len(scene.boxes), dtype=bool)
    right = []
    for overlap, phrase in zip(overlaps, found.phrase_index, strict=True):
        candidates = np.where(free & (scene.labels == phrase), overlap, 0)
        best = int(candidates.argmax()) if len(candidates) else -1
        ok = best >= 0 and candidates[best] >= _IOU
        if ok:
            free[best] = False
        right.append(bool(ok))
    return right


def quick_measures(folder: Path, work: Path) -> dict[str, float]:
    """AP50 of a few sets on few scenes, for the curve of a training run."""
    engine = load(load_card(str(folder / "demo.yaml")), folder, "huggingface")
    world = load_world()
    sets = measured_sets(world)
    return {
        name: tally(engine, load_scenes(sets[name], world, work)(_QUICK_SCENES)).figures()[figure]
        for name, figure in _QUICK.items()
    }


@dataclass(slots=True)
class Agreement:
    """Two engines on the same scenes. furthest_px: largest distance of a box's edges."""

    boxes: int = 0
    furthest_px: float = 0.0
    differing: int = 0  # scenes with other labels, or boxes more than half a pixel apart


def agreement(one: AnyEngine, other: AnyEngine, scenes: Iterable[Scene]) -> Agreement:
    """Compare what two engines find at the default thresholds."""
    counts = Agreement()
    for scene in scenes:
        first, second = (
            _ordered(kept_boxes(detect(engine, scene), scene, _DEFAULT_THRESHOLDS))
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


def _ordered(boxes: Detections) -> Detections:
    """By phrase, then place: scores that differ in the last digit must not change the order."""
    corners = boxes.boxes_xyxy.round().T
    order = np.lexsort((corners[1], corners[0], boxes.phrase_index))
    return _taken(boxes, order)


def _taken(boxes: Detections, which: Ints) -> Detections:
    return replace(
        boxes,
        boxes_xyxy=boxes.boxes_xyxy[which],
        scores=boxes.scores[which],
        phrase_index=boxes.phrase_index[which],
    )


def load(card: ModelCard, folder: Path, engine: str) -> AnyEngine:
    """The checkpoint in the engine of that name."""
    card = card.model_copy(update={"engine": engine})
    return load_engine(card, folder, device="cpu", precision="float32")


def main() -> None:
    """Print the figures of every set as a table, or compare the engines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo", help="name of a model, or its card (.yaml)")
    parser.add_argument("--scenes", type=int, default=SCENES, help="of each set")
    parser.add_argument("--sets", nargs="+", help="of these alone: seen, styles, pairs, ...")
    parser.add_argument("--work", type=Path, default=WORK, help="where the icons are kept")
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
