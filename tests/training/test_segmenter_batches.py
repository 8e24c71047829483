"""Batches of the segmenter, and its losses."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from training.icons import Sprites
from training.scenes import Scene
from training.segmentation.batches import LOW, SegmenterBatch, SegmenterBatches, with_visible
from training.segmentation.losses import mask_loss
from training.segmentation.recipe import SegmenterRecipe
from training.world import World

TINY = SegmenterRecipe.read("tiny")
LAST = TINY.steps - 1


@pytest.fixture(scope="module")
def batches(world: World) -> SegmenterBatches:
    return SegmenterBatches(TINY, world, Sprites({}))


def tensors(batch: SegmenterBatch) -> list[torch.Tensor]:
    return [getattr(batch, field.name) for field in fields(batch)]


def test_the_step_decides_the_batch(batches: SegmenterBatches, world: World) -> None:
    again = SegmenterBatches(TINY, world, Sprites({}))
    last = tensors(again[LAST])  # before the others, which must not change it
    assert all(map(torch.equal, tensors(batches[0]), tensors(again[0])))
    assert all(map(torch.equal, tensors(batches[LAST]), last))
    assert not torch.equal(batches[0].pixels, batches[1].pixels)


@pytest.mark.parametrize("step", [0, 7, LAST])
def test_prompts_belong_to_their_masks(batches: SegmenterBatches, step: int) -> None:
    stage, batch = TINY.stage(step), batches[step]
    side = stage.size // LOW
    assert batch.pixels.shape == (stage.batch, 3, stage.size, stage.size)
    assert batch.masks.shape == (stage.batch, stage.prompts, side, side)
    assert ((batch.masks >= 0) & (batch.masks <= 1)).all()
    assert (batch.masks.amax((2, 3)) > 0.5).all()
    assert (batch.masks <= batch.valid[:, None]).all()
    assert (batch.boxes[..., 2:] > batch.boxes[..., :2]).all()
    assert (batch.boxes >= 0).all()
    assert (batch.boxes <= stage.size).all()
    assert (batch.point_labels[..., 0] == 1).all()
    for picture, prompt, click in batch.point_labels.eq(1).nonzero().tolist():
        x, y = (batch.points[picture, prompt, click] / LOW).long().tolist()
        assert batch.masks[picture, prompt, y, x] > 0


def test_hidden_objects_are_no_targets() -> None:
    masks = np.zeros((3, 40, 40), bool)
    masks[0, :20, :20] = True
    masks[1, 30:32, 30:32] = True  # of few pixels
    masks[2, :4, 30:34] = True  # a small part of its box
    boxes = np.array([[0, 0, 20, 20], [30, 30, 32, 32], [20, 0, 40, 20]], np.float32)
    scene = Scene(np.zeros((40, 40, 3), np.uint8), ("cat",), boxes, np.zeros(3, np.int64), masks)
    assert with_visible(scene).boxes.tolist() == [[0, 0, 20, 20]]
    empty = replace(scene, boxes=boxes[:0], labels=scene.labels[:0], masks=masks[:0])
    assert len(with_visible(empty).masks) == 0


def loss_of(batch: SegmenterBatch, masks: torch.Tensor, quality: float = 1.0) -> float:
    """Return the loss of a model that answers these masks."""
    qualities = torch.full(masks.shape[:2], quality)
    boxes = batch.boxes / LOW
    loss, _ = mask_loss(masks * 12 - 6, qualities, batch.masks, batch.valid, boxes)
    return float(loss)


def test_the_true_masks_have_the_lowest_loss(batches: SegmenterBatches) -> None:
    batch = batches[LAST]
    true = (batch.masks >= 0.5).float()
    best = loss_of(batch, true)
    assert best < 0.4  # edges cover a part of their cells
    assert best < 0.7 * loss_of(batch, true.roll(3, -1))
    assert best < 0.3 * loss_of(batch, true.flip(1))  # the masks of other prompts
    assert best < 0.3 * loss_of(batch, torch.zeros_like(true))
    assert best < loss_of(batch, true, quality=0.5)


def test_padding_does_not_count(batches: SegmenterBatches) -> None:
    step = next(step for step in range(TINY.steps) if not batches[step].valid.all())
    batch = batches[step]
    padding = 1 - batch.valid[:, None].expand_as(batch.masks)
    assert loss_of(batch, batch.masks + padding * 5) == pytest.approx(loss_of(batch, batch.masks))
