"""Batches of training: scenes, prompts and masks of a step as tensors."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import Dataset

from prelabel.engines.preprocess import normalised
from prelabel.types import Floats, ImageRGB, Ints
from training.icons import Sprites
from training.scenes import Scene, SceneMaker
from training.segmentation.recipe import SegmenterRecipe
from training.world import World

POINTS = 3  # most clicks of a prompt
NO_POINT = -10  # SAM's label of padding among points
LOW = 2  # pixels of model input by low-resolution cell: a token of 8 px becomes 4 x 4 cells
_MIN_SEEN_PX, _MIN_SEEN_SHARE = 12, 0.08  # of an object: hidden objects are no targets
_JITTER_SHARES = (0.0, 0.02, 0.05)  # of a box's sides; one is chosen for each prompt
_JITTER_PX = 0.7
_TRIES = 10
_WIDEST, _SQUARISH = 2.0, 4 / 3  # largest ratios of the sides of wide and of other scenes
_LEAST_WIDE = 0.5  # a wide scene's least ratio, as an exponent of the largest


@dataclass(frozen=True, slots=True)
class SegmenterBatch:
    """Input and ground truth of a step: B pictures of S pixels with N prompts each.

    Attributes:
        pixels: float32 [B, 3, S, S], normalised, 0 in the padding.
        valid: float32 [B, S/2, S/2], 0 in the padding.
        boxes: float32 [B, N, 4], xyxy in pixels, as a detector would give them.
        points: float32 [B, N, 3, 2], xy in pixels.
        point_labels: int64 [B, N, 3]: 1 inside, 0 outside, `NO_POINT`.
        masks: float32 [B, N, S/2, S/2], the share of each cell that the object covers.
    """

    pixels: torch.Tensor
    valid: torch.Tensor
    boxes: torch.Tensor
    points: torch.Tensor
    point_labels: torch.Tensor
    masks: torch.Tensor


class SegmenterBatches(Dataset[SegmenterBatch]):
    """The batch of each step, made from the recipe's seed and the step's number."""

    def __init__(self, recipe: SegmenterRecipe, world: World, sprites: Sprites) -> None:
        self._recipe = recipe
        self._makers = {
            stage: SceneMaker(world, sprites, stage.scenes, masks=True) for stage in recipe.stages
        }

    def __len__(self) -> int:
        return self._recipe.steps

    def __getitem__(self, step: int) -> SegmenterBatch:
        stage = self._recipe.stage(step)
        size, prompts = stage.size, stage.prompts
        rng = random.Random(f"{self._recipe.seed} {step}")
        np_rng = np.random.default_rng([self._recipe.seed, step])
        images = np.zeros((stage.batch, size, size, 3), np.uint8)
        inside = np.zeros((stage.batch, size, size), np.float32)
        boxes = np.zeros((stage.batch, prompts, 4), np.float32)
        points = np.zeros((stage.batch, prompts, POINTS, 2), np.float32)
        labels = np.full((stage.batch, prompts, POINTS), NO_POINT, np.int64)
        masks = np.zeros((stage.batch, prompts, size // LOW, size // LOW), np.float32)
        for number in range(stage.batch):
            scene = self._scene(rng, (self._recipe.seed, step, number))
            image, own_boxes, own_masks = _fitted(scene, size)
            height, width = image.shape[:2]
            images[number, :height, :width] = image
            inside[number, :height, :width] = 1
            for prompt, chosen in enumerate(_choices(rng, len(own_boxes), prompts)):
                mask, box = own_masks[chosen], own_boxes[chosen]
                boxes[number, prompt] = _jittered(rng, np_rng, box, (width, height))
                clicks, click_labels = _clicks(rng, np_rng, mask, box)
                points[number, prompt, : len(clicks)] = clicks
                labels[number, prompt, : len(clicks)] = click_labels
                masks[number, prompt] = _cells(mask, size)
        picture = torch.from_numpy(inside)
        return SegmenterBatch(
            pixels=normalised(torch.from_numpy(images)) * picture[:, None],
            valid=functional.max_pool2d(picture, LOW),
            boxes=torch.from_numpy(boxes),
            points=torch.from_numpy(points),
            point_labels=torch.from_numpy(labels),
            masks=torch.from_numpy(masks),
        )

    def _scene(self, rng: random.Random, seed: tuple[int, int, int]) -> Scene:
        """Return a scene with at least one visible object, without the hidden ones."""
        stage = self._recipe.stage(seed[1])
        side = math.exp(rng.uniform(*map(math.log, stage.sides)))
        if rng.random() < stage.wide:
            turn, widest = rng.choice((-1, 1)) * rng.uniform(_LEAST_WIDE, 1), _WIDEST
        else:
            turn, widest = rng.uniform(-1, 1), _SQUARISH
        ratio = math.exp(turn * math.log(widest))
        hw = (round(side * min(1, 1 / ratio)), round(side * min(1, ratio)))
        for attempt in range(_TRIES):
            scene = with_visible(self._makers[stage]((*seed, attempt), hw))
            if len(scene.boxes):
                return scene
        raise RuntimeError(f"no visible object in {_TRIES} scenes of {seed}")


def with_visible(scene: Scene) -> Scene:
    """Return a scene without the objects that others hide."""
    boxes = scene.boxes
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    seen = scene.masks.sum((1, 2))
    visible = (seen >= _MIN_SEEN_PX) & (seen > _MIN_SEEN_SHARE * area)
    return replace(
        scene, boxes=boxes[visible], labels=scene.labels[visible], masks=scene.masks[visible]
    )


def _fitted(scene: Scene, size: int) -> tuple[ImageRGB, Floats, Floats]:
    """Resize a scene until its longer side is `size`. The masks become shares of pixels."""
    height, width = scene.image.shape[:2]
    scale = size / max(height, width)
    wh = (int(width * scale + 0.5), int(height * scale + 0.5))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image = cv2.resize(scene.image, wh, interpolation=how)
    masks = np.stack(
        [cv2.resize(mask.astype(np.float32), wh, interpolation=how) for mask in scene.masks]
    )
    factors = np.array([wh[0] / width, wh[1] / height] * 2, np.float32)
    return np.asarray(image, np.uint8), scene.boxes * factors, masks


def _cells(mask: Floats, size: int) -> Floats:
    """Return the share of each low-resolution cell that is covered, float32 [S/2, S/2]."""
    square = np.zeros((size, size), np.float32)
    square[: mask.shape[0], : mask.shape[1]] = mask
    side = size // LOW
    cells: Floats = np.asarray(cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA))
    return cells


def _choices(rng: random.Random, objects: int, prompts: int) -> list[int]:
    if objects < prompts:
        return [rng.randrange(objects) for _ in range(prompts)]
    return rng.sample(range(objects), prompts)


def _jittered(
    rng: random.Random, np_rng: np.random.Generator, box: Floats, wh: tuple[int, int]
) -> Floats:
    """Return a box as a detector would give it."""
    sides = np.array([box[2] - box[0], box[3] - box[1]] * 2)
    noise = np_rng.normal(0, 1, 4) * sides * rng.choice(_JITTER_SHARES)
    moved = box + noise + np_rng.normal(0, _JITTER_PX, 4)
    clipped: Floats = np.clip(moved, 0, [*wh, *wh]).astype(np.float32)
    return clipped


def _clicks(
    rng: random.Random, np_rng: np.random.Generator, mask: Floats, box: Floats
) -> tuple[Floats, Ints]:
    """Return one to three clicks as xy and labels: the first on the object, then on or beside it.

    Annotators aim at the middle of an object, so that the first click prefers it.
    """
    rows, columns = np.nonzero(mask >= 0.5)
    if not len(rows):
        rows, columns = np.nonzero(mask >= mask.max())
    clicks, labels = [], []
    for number in range(rng.choice((1, 1, 2, 3))):
        if number == 0 or rng.random() < 0.5:
            some = np_rng.integers(0, len(rows), 6)
            distance = np.hypot(rows[some] - rows.mean(), columns[some] - columns.mean())
            central = number == 0 and rng.random() < 0.6
            pixel = some[distance.argmin()] if central else some[0]
            clicks.append((columns[pixel], rows[pixel]))
            labels.append(1)
        else:
            w, h = box[2] - box[0], box[3] - box[1]
            x = min(max(rng.uniform(box[0] - 0.2 * w, box[2] + 0.2 * w), 0), mask.shape[1] - 1)
            y = min(max(rng.uniform(box[1] - 0.2 * h, box[3] + 0.2 * h), 0), mask.shape[0] - 1)
            clicks.append((x, y))
            labels.append(int(mask[int(y), int(x)] >= 0.5))
    return np.array(clicks, np.float32), np.array(labels, np.int64)
