"""The whole service around an engine that only costs time: what the serving itself can do.

No `from __future__ import annotations` here, as in serve_app.py.
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

BASE_S, ITEM_S = 0.040, 0.010  # a batch of the fast one, and a picture


@dataclass(frozen=True, slots=True)
class _CostItem:
    phrases: int
    bucket: int = 0


class CostEngine:
    """Takes so many seconds for a batch and for each of its pictures, and no processor; finds one
    box for each phrase.
    """

    def __init__(self, base_s: float, item_s: float) -> None:
        self._base_s, self._item_s = base_s, item_s

    def prepare(self, image: ImageRGB, phrases: Sequence[str]) -> list[_CostItem]:
        """See `base.Engine`."""
        del image
        return [_CostItem(len(phrases))]

    def detect(self, items: Sequence[_CostItem]) -> list[RawDetections]:
        """See `base.Engine`."""
        time.sleep(self._base_s + self._item_s * len(items))
        return [self._raw(item.phrases) for item in items]

    def _raw(self, phrases: int) -> RawDetections:
        scores = np.eye(phrases, dtype=np.float32)
        boxes = np.tile(np.array([[0.1, 0.1, 0.4, 0.4]], np.float32), (phrases, 1))
        return RawDetections(boxes, scores, scores, 0)


def load_cost_engine(
    card: ModelCard, folder: Path, *, device: str, precision: str, cpu_threads: int | None = None
) -> CostEngine:
    """An `EngineLoader`."""
    del card, folder, device, precision, cpu_threads
    return CostEngine(BASE_S, ITEM_S)


def load_slow_engine(
    card: ModelCard, folder: Path, *, device: str, precision: str, cpu_threads: int | None = None
) -> CostEngine:
    """One as slow as full-size Grounding DINO on an old GPU."""
    del card, folder, device, precision, cpu_threads
    return CostEngine(0.1, 0.1)


def build_cost_app(settings: AppSettings) -> Application:
    """Around the engine that costs little: the serving is what limits it on two cores."""
    return bind_app(settings, load_cost_engine)


def build_slow_app(settings: AppSettings) -> Application:
    """Around the one that costs what a real model does: the engine is what limits it."""
    return bind_app(settings, load_slow_engine)
