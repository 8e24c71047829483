"""Evaluation of a segmenter in the service's engine, on scenes that training never made.

`python -m training.segmentation.evaluate` prints the table of the model's README. With
`--end-to-end` it measures the masks of the detector's boxes instead: phrases, boxes, masks.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from prelabel.checkpoints.cards import (
    SegmenterCard,
    load_card,
    load_segmenter_card,
    model_folder,
)
from prelabel.detection.pictures import Picture
from prelabel.detection.tiling import Tiling
from prelabel.engines import load_segmenter
from prelabel.engines.base import AnyEngine
from prelabel.images.decode import DecodedImage
from prelabel.masks.logits import mask_runs
from prelabel.masks.runs import mask_of_runs
from prelabel.segmentation.views import ViewRule
from prelabel.settings import AppSettings
from prelabel.types import Floats, ImageRGB, MaskPrompt, Masks
from training.evaluate import (
    DEFAULT_THRESHOLDS,
    answered_boxes,
    correct_boxes,
    detect,
    first_on_objects,
    load,
)
from training.held_out import (
    MeasuredSet,
    add_arguments,
    chosen,
    figure_cells,
    load_scenes,
    measured_sets,
    print_table,
)
from training.scenes import Scene
from training.segmentation.batches import with_visible
from training.segmentation.card import NAME
from training.world import World, load_world

_SETS = ("seen", "styles", "unseen_pairs", "backgrounds", "wide")
_DEFAULTS = AppSettings()
_SEED = 7_100_000  # of the noise on boxes
_MOVED = 0.04  # standard deviation of a moved box's edges, as a share of its sides
_SMALL, _LARGE = 0.15, 0.3  # an object's longer side by the picture's shorter side
_GRABCUT_MARGIN, _GRABCUT_MARGIN_PX = 0.35, 4  # of the picture around a box
_GRABCUT_ROUNDS = 4
_COLUMNS = (
    "from the box",
    "box moved by 4 %",
    "one click",
    "the filled box",
    "objects under 15 %",
    "objects over 30 %",
    "worst tenth below",
)
_GRABCUT_COLUMNS = ("GrabCut", "from the box, GrabCut's scenes")
_END_TO_END_COLUMNS = ("recall of boxes", "recall of masks")


def mask_sets(world: World) -> dict[str, MeasuredSet]:
    """Return the sets of scenes by name: those of the detector that differ in their pictures."""
    sets = measured_sets(world)
    return {name: sets[name] for name in _SETS}


class MaskDrawer:
    """Draws the masks that the service would draw with its default settings.

    Args:
        card: Card of the segmenter.
    """

    def __init__(self, card: SegmenterCard) -> None:
        folder = model_folder(card, "models")
        self._engine = load_segmenter(card, folder, device="cpu", precision="float32")
        tiling = Tiling.of(_DEFAULTS.detection)
        self._views = ViewRule(tiling, card.square_views, _DEFAULTS.masks.box_margin)

    def __call__(self, image: ImageRGB, prompts: Sequence[MaskPrompt]) -> Masks:
        """Return the mask of each prompt, bool [N, H, W]."""
        wh = (image.shape[1], image.shape[0])
        masks = np.zeros((len(prompts), *image.shape[:2]), bool)
        smallest = (_DEFAULTS.masks.min_island_px, _DEFAULTS.masks.min_hole_px)
        picture = Picture(b"", DecodedImage(image, wh), urgent=False)
        for view, in_view in self._views.by_view(prompts, wh).items():
            part = picture.part(view)
            [encoding] = self._engine.encode([self._engine.prepare(part.pixels)])
            local = [prompt.within(part) for prompt in in_view]
            [answers] = self._engine.decode([(encoding, local)])
            for prompt, answer in zip(in_view, answers, strict=True):
                runs = mask_runs(prompt.in_picture(answer, part), wh, *smallest)
                masks[prompt.row] = mask_of_runs(runs, wh)
        return masks


def box_prompts(boxes: Floats) -> list[MaskPrompt]:
    """Return a prompt for each box [N, 4]."""
    return [MaskPrompt(box_xyxy=(x0, y0, x1, y1)) for x0, y0, x1, y1 in boxes.tolist()]


def click_prompt(mask: Masks) -> MaskPrompt:
    """Return a click on the pixel of an object [H, W] that is deepest inside of it."""
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), mask.shape)
    return MaskPrompt(points_xy=((float(column) + 0.5, float(row) + 0.5),), points_inside=(True,))


def moved_boxes(boxes: Floats, image_wh: tuple[int, int], seed: int) -> Floats:
    """Return boxes [N, 4] whose edges are moved at random, inside of the picture."""
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    noise = np.random.default_rng([_SEED, seed]).normal(0, _MOVED, boxes.shape)
    return np.clip(boxes + noise * sides, 0, np.tile(image_wh, 2))


def filled_box(box: Floats, hw: tuple[int, int]) -> Masks:
    """Return all pixels of a box [4] in whole pixels as a mask [H, W]."""
    left, top, right, bottom = box.astype(int)
    mask = np.zeros(hw, bool)
    mask[top:bottom, left:right] = True
    return mask


def grabcut(image: ImageRGB, box: Floats) -> Masks:
    """Return the object in a box [4] of whole pixels by OpenCV's GrabCut, bool [H, W].

    GrabCut sees the box with a margin, because its time grows with the picture.
    """
    height, width = image.shape[:2]
    left, top, right, bottom = box.astype(int).tolist()
    margin_x = int((right - left) * _GRABCUT_MARGIN) + _GRABCUT_MARGIN_PX
    margin_y = int((bottom - top) * _GRABCUT_MARGIN) + _GRABCUT_MARGIN_PX
    x0, y0 = max(0, left - margin_x), max(0, top - margin_y)
    x1, y1 = min(width, right + margin_x), min(height, bottom + margin_y)
    crop = np.ascontiguousarray(image[y0:y1, x0:x1])
    labels = np.zeros(crop.shape[:2], np.uint8)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(
        crop,
        labels,
        (left - x0, top - y0, right - left, bottom - top),
        *models,
        _GRABCUT_ROUNDS,
        cv2.GC_INIT_WITH_RECT,
    )
    mask = np.zeros((height, width), bool)
    mask[y0:y1, x0:x1] = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    return mask


def iou(first: Masks, second: Masks) -> float:
    """Return the IoU of two masks [H, W]; 0 if both are empty."""
    return float((first & second).sum() / max(1, (first | second).sum()))


@dataclass(slots=True)
class MaskTally:
    """The IoU of masks with the visible pixels of their objects, one entry for each object.

    Attributes:
        box: Masks from the true boxes.
        moved: Masks from boxes that are moved at random.
        click: Masks from one click.
        filled: The true boxes themselves.
        grabcut: Masks of GrabCut from the true boxes, for the objects of the first scenes.
        sizes: Longer side of each object by the picture's shorter side.
    """

    box: list[float] = field(default_factory=list)
    moved: list[float] = field(default_factory=list)
    click: list[float] = field(default_factory=list)
    filled: list[float] = field(default_factory=list)
    grabcut: list[float] = field(default_factory=list)
    sizes: list[float] = field(default_factory=list)

    def figures(self) -> list[float]:
        """Return the figures of the table's row; NaN for the mean of no objects."""
        box, sizes = np.array(self.box), np.array(self.sizes)
        figures = [_mean(each) for each in (box, self.moved, self.click, self.filled)]
        figures += [_mean(box[sizes < _SMALL]), _mean(box[sizes > _LARGE])]
        figures.append(float(np.quantile(box, 0.1)) if len(box) else math.nan)
        if self.grabcut:
            figures += [_mean(self.grabcut), _mean(box[: len(self.grabcut)])]
        return figures


def mask_tally(draw: MaskDrawer, scenes: Iterable[Scene], grabcut_scenes: int = 0) -> MaskTally:
    """Segment every visible object of every scene, and compare the masks with the true ones."""
    tally = MaskTally()
    for number, scene in enumerate(map(with_visible, scenes)):
        height, width = scene.image.shape[:2]
        boxes, truth = scene.boxes, scene.masks
        moved = moved_boxes(boxes, (width, height), number)
        prompts = box_prompts(boxes) + box_prompts(moved) + [click_prompt(mask) for mask in truth]
        masks = iter(draw(scene.image, prompts))
        for ious in (tally.box, tally.moved, tally.click):
            ious += [iou(next(masks), true) for true in truth]
        for box, true in zip(boxes, truth, strict=True):
            tally.filled.append(iou(filled_box(box, (height, width)), true))
            if number < grabcut_scenes:
                tally.grabcut.append(iou(grabcut(scene.image, box), true))
        sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) / min(height, width)
        tally.sizes += sides.tolist()
    return tally


@dataclass(slots=True)
class EndToEndTally:
    """Counts of objects that phrases find.

    Attributes:
        objects: Visible objects that the prompts name.
        boxes: Objects with a correct box at the default thresholds.
        masks: Objects with a correct mask, made of one of these boxes.
    """

    objects: int = 0
    boxes: int = 0
    masks: int = 0

    def figures(self) -> list[float]:
        """Return the recall of boxes and the recall of masks, both at IoU 0.5."""
        return [
            found / self.objects if self.objects else math.nan for found in (self.boxes, self.masks)
        ]


def end_to_end_tally(
    detector: AnyEngine, draw: MaskDrawer, scenes: Iterable[Scene]
) -> EndToEndTally:
    """Detect the phrases of every scene, and segment the boxes that the service would answer."""
    tally = EndToEndTally()
    for scene in map(with_visible, scenes):
        found = answered_boxes(detect(detector, scene), scene, DEFAULT_THRESHOLDS)
        masks = draw(scene.image, box_prompts(found.boxes_xyxy))
        overlaps = np.array([[iou(mask, true) for true in scene.masks] for mask in masks])
        overlaps = overlaps.reshape(len(masks), len(scene.masks))
        tally.objects += len(scene.boxes)
        tally.boxes += sum(correct_boxes(found, scene))
        tally.masks += sum(first_on_objects(overlaps, found.phrase_index, scene))
    return tally


def _mean(values: Sequence[float] | Floats) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def main() -> None:
    """Print the figures of each set as a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser, NAME)
    parser.add_argument(
        "--grabcut", type=int, default=0, help="measure OpenCV's GrabCut on the first so many"
    )
    parser.add_argument(
        "--end-to-end", action="store_true", help="measure the masks of a detector's boxes instead"
    )
    parser.add_argument("--detector", default="demo", help="name of that detector, or its card")
    arguments = parser.parse_args()
    draw = MaskDrawer(load_segmenter_card(arguments.model))
    columns: tuple[str, ...] = _END_TO_END_COLUMNS
    if arguments.end_to_end:
        detector_card = load_card(arguments.detector)
        folder = model_folder(detector_card, "models")
        detector = load(detector_card, folder, detector_card.engine)
    else:
        columns = _COLUMNS + (_GRABCUT_COLUMNS if arguments.grabcut else ())

    def figures(scenes: Iterable[Scene]) -> list[float]:
        if arguments.end_to_end:
            return end_to_end_tally(detector, draw, scenes).figures()
        return mask_tally(draw, scenes, arguments.grabcut).figures()

    def rows() -> Iterator[tuple[str, list[str]]]:
        world = load_world()
        for measured in chosen(mask_sets(world), arguments.sets):
            scenes = load_scenes(measured, world, arguments.work, masks=True)
            yield measured.title, figure_cells(figures(scenes(arguments.scenes)))

    print_table(columns, rows())


if __name__ == "__main__":
    main()
