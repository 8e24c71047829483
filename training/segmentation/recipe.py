"""Recipes of training the segmenter, read from recipe.yaml, which describes every key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from training.backgrounds import MORE, TRAINED
from training.scenes import SceneKind

_RECIPES = Path(__file__).resolve().with_name("recipe.yaml")
_FINAL_RATE = 0.02  # share of the peak rate at the last step


@dataclass(frozen=True, slots=True)
class SegmenterStage:
    """A stage of training: its length, the size of its pictures and its scenes."""

    steps: int
    batch: int
    prompts: int
    size: int
    sides: tuple[int, int]
    things: float
    shapes_only: float
    wide: float
    objects: tuple[int, int]
    least_px: int
    points: float
    points_and_boxes: float

    @property
    def scenes(self) -> SceneKind:
        """The distribution of the stage's scenes. Every object is named."""
        return SceneKind(
            things=self.things,
            shapes_only=self.shapes_only,
            objects=self.objects,
            distorted=True,
            least_px=self.least_px,
            backgrounds=TRAINED + MORE,
        )


@dataclass(frozen=True, slots=True)
class SegmenterRecipe:
    """A training run: its stages, its learning rate, and the steps between saved states."""

    seed: int
    peak_rate: float
    warm_up: int
    cool_down: int
    average: float
    save_every: int
    stages: tuple[SegmenterStage, ...]

    @classmethod
    def read(cls, name: str) -> SegmenterRecipe:
        """Read a recipe of recipe.yaml by name."""
        entry = yaml.safe_load(_RECIPES.read_text())[name]
        stages: list[dict[str, Any]] = [
            {key: tuple(value) if isinstance(value, list) else value for key, value in one.items()}
            for one in entry.pop("stages")
        ]
        return cls(stages=tuple(SegmenterStage(**stage) for stage in stages), **entry)

    @property
    def steps(self) -> int:
        """Number of steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def stage(self, step: int) -> SegmenterStage:
        """Return the stage of a step, counted from 0."""
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.stages[-1]

    def rate(self, step: int, first: int = 0) -> float:
        """Return the learning rate of a step: warm-up from step `first`, plateau, linear decay."""
        warm = min(1.0, (step - first + 1) / self.warm_up)
        left = min(1.0, (self.steps - step) / self.cool_down)
        return self.peak_rate * warm * (_FINAL_RATE + (1 - _FINAL_RATE) * left)
