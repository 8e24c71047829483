"""Batches of training: the scenes of a step as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.data import Dataset

from prelabel.engines.preprocess import normalised
from training.icons import Sprites
from training.losses import Targets, boxes_cxcywh, pad_rows
from training.model import Vocabulary
from training.recipe import Recipe
from training.scenes import SceneMaker
from training.world import World


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """Input and ground truth of a step.

    Attributes:
        pixels: float32 [B, 3, H, W], normalised.
        token_rows: int64 [B, T], rows of the vocabulary.
        targets: Ground truth.
    """

    pixels: torch.Tensor
    token_rows: torch.Tensor
    targets: Targets


class Batches(Dataset[TrainingBatch]):
    """The batch of each step, made from the recipe's seed and the step's number.

    A run that is resumed therefore gets the same batches as a run without interruption.
    """

    def __init__(
        self, recipe: Recipe, vocabulary: Vocabulary, world: World, sprites: Sprites
    ) -> None:
        self._recipe = recipe
        self._vocabulary = vocabulary
        self._makers = {
            stage: SceneMaker(world, sprites, stage.scenes, vocabulary.unknown_words())
            for stage in recipe.stages
        }

    def __len__(self) -> int:
        return self._recipe.steps

    def __getitem__(self, step: int) -> TrainingBatch:
        hw, stage = self._recipe.hw(step), self._recipe.stage(step)
        make_scene = self._makers[stage]
        scenes = [
            make_scene((self._recipe.seed, step, number), hw) for number in range(stage.batch)
        ]
        captions = [self._vocabulary.caption(scene.phrases) for scene in scenes]
        rows, owners = zip(*captions, strict=True)
        owner = pad_rows(owners, -1)
        phrases = max(len(scene.phrases) for scene in scenes)
        return TrainingBatch(
            pixels=normalised(torch.stack([torch.tensor(scene.image) for scene in scenes])),
            token_rows=pad_rows(rows, 0),
            targets=Targets(
                boxes=[boxes_cxcywh(torch.tensor(scene.boxes), hw) for scene in scenes],
                labels=[torch.tensor(scene.labels) for scene in scenes],
                phrase_tokens=(owner[:, None] == torch.arange(phrases)[None, :, None]).float(),
                token_mask=pad_rows([[1] * len(row) for row in rows], 0).bool(),
            ),
        )
