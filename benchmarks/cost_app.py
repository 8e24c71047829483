"""The complete service around an engine that only sleeps, to measure the serving layers alone.

No `from __future__ import annotations` here: Ray would then pass the builders an unvalidated dict.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ray.serve import Application

from prelabel.checkpoints.cards import ModelCard
from prelabel.settings import AppSettings
from prelabel.types import ImageRGB, RawDetections
from serve_app import bind_app

BASE_S, ITEM_S = 0.040, 0.010  # of the fast engine: per batch, and per picture in it
_SLOW_BASE_S, _SLOW_ITEM_S = 0.1, 0.1  # about full-size Grounding DINO on an old GPU


@dataclass(frozen=True, slots=True)
class _CostItem:
    phrases: int
    bucket: int = 0


class CostEngine:
    """An engine that sleeps base_s + item_s * n seconds for a batch of n pictures.

    It needs no processor time and returns one box for each phrase.
    """

    def __init__(self, base_s: float, item_s: float) -> None:
        self._base_s, self._item_s = base_s, item_s

    def resized_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """Return the size as it is: pictures are not resized."""
        return image_hw

    def prepare(self, image: ImageRGB, phrases: Sequence[str]) -> list[_CostItem]:
        """Return one item with the number of phrases; the image is ignored."""
        del image
        return [_CostItem(len(phrases))]

    def detect(self, items: Sequence[_CostItem]) -> list[RawDetections]:
        """Sleep, then return one box with score 1 for each phrase of each item."""
        time.sleep(self._base_s + self._item_s * len(items))
        return [self._raw(item.phrases) for item in items]

    def _raw(self, phrases: int) -> RawDetections:
        scores = np.eye(phrases, dtype=np.float32)
        boxes = np.tile(np.array([[0.1, 0.1, 0.4, 0.4]], np.float32), (phrases, 1))
        return RawDetections(boxes, scores, scores, 0)


def load_cost_engine(
    card: ModelCard, folder: Path, *, device: str, precision: str, cpu_threads: int | None = None
) -> CostEngine:
    """Load the fast engine. Implements the `EngineLoader` protocol."""
    del card, folder, device, precision, cpu_threads
    return CostEngine(BASE_S, ITEM_S)


def load_slow_engine(
    card: ModelCard, folder: Path, *, device: str, precision: str, cpu_threads: int | None = None
) -> CostEngine:
    """Load the slow engine. Implements the `EngineLoader` protocol."""
    del card, folder, device, precision, cpu_threads
    return CostEngine(_SLOW_BASE_S, _SLOW_ITEM_S)


def build_cost_app(settings: AppSettings) -> Application:
    """Build the service around the fast engine: on two cores the serving layers are the limit."""
    return bind_app(settings, load_cost_engine)


def build_slow_app(settings: AppSettings) -> Application:
    """Build the service around the slow engine: as with a real model, the engine is the limit."""
    return bind_app(settings, load_slow_engine)
