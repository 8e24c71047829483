"""Recipes of training, read from recipe.yaml, which describes every key."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from training.scenes import SceneKind

_RECIPES = Path(__file__).resolve().with_name("recipe.yaml")
_SIDE_STEP = 8  # pixels: sides of training pictures are multiples of the finest stride
_WIDEST = 2.0  # largest ratio of a picture's sides
_SQUARISH, _SQUARISH_SHARE = 4 / 3, 0.5  # half of all batches have a ratio up to 4:3
_FINAL_RATE = 0.02  # share of the peak rate at the last step


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of training: its length, its scenes and its number of queries."""

    steps: int
    batch: int
    sizes: tuple[int, ...]
    things: float
    objects: tuple[int, int]
    least_px: int
    phrases: tuple[int, int]
    nothing: float
    shapes_only: float = 0.0
    repeated: float = 0.0
    queries: int = 50

    @property
    def scenes(self) -> SceneKind:
        """The distribution of the stage's scenes."""
        return SceneKind(
            things=self.things,
            shapes_only=self.shapes_only,
            repeated=self.repeated,
            objects=self.objects,
            phrases=self.phrases,
            named=0.88,
            nothing=self.nothing,
            unknown_words=0.15,
            distorted=True,
            least_px=self.least_px,
        )


@dataclass(frozen=True, slots=True)
class Recipe:
    """A training run: its stages, learning rate, and what happens every so many steps."""

    seed: int
    peak_rate: float
    warm_up: int
    cool_down: int
    average: float
    stages: tuple[Stage, ...]
    save_every: int
    evaluate_every: int
    false_boxes: float | None

    @classmethod
    def read(cls, name: str) -> Recipe:
        """Read a recipe of recipe.yaml by name."""
        entry = yaml.safe_load(_RECIPES.read_text())[name]
        stages: list[dict[str, Any]] = [
            {key: tuple(value) if isinstance(value, list) else value for key, value in one.items()}
            for one in entry.pop("stages")
        ]
        return cls(stages=tuple(Stage(**stage) for stage in stages), **entry)

    @property
    def steps(self) -> int:
        """Number of steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def stage(self, step: int) -> Stage:
        """Return the stage of a step, counted from 0."""
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.stages[-1]

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: warm-up, plateau, linear decay."""
        warm = min(1.0, (step + 1) / self.warm_up)
        left = min(1.0, (self.steps - step) / self.cool_down)
        return self.peak_rate * warm * (_FINAL_RATE + (1 - _FINAL_RATE) * left)

    def hw(self, step: int) -> tuple[int, int]:
        """Return height and width in pixels of the pictures of a step."""
        rng = random.Random(f"{self.seed} {step}")
        side = rng.choice(self.stage(step).sizes)
        widest = _SQUARISH if rng.random() < _SQUARISH_SHARE else _WIDEST
        ratio = math.exp(rng.uniform(-1, 1) * math.log(widest))
        height, width = (
            round(length / _SIDE_STEP) * _SIDE_STEP
            for length in (side / math.sqrt(ratio), side * math.sqrt(ratio))
        )
        return height, width
