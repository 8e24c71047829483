"""The whole service around an engine whose answers follow from the pictures' own pixels.

No `from __future__ import annotations` here, as in serve_app.py.
"""

import io
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from ray.serve import Application

from prelabel.checkpoints.cards import ModelCard
from prelabel.settings import AppSettings
from prelabel.types import Floats, ImageRGB, RawDetections
from serve_app import bind_app

LABELS = ("red", "green", "blue")
SIDE = 100  # of a picture: its pixels are percent
ITEM_S = 0.02
LOAD_S = 1.0


@dataclass(frozen=True, slots=True)
class Block:
    """A block of one colour: what is on a picture, and what must be found there."""

    label: str
    left: int
    top: int
    width: int
    height: int

    @classmethod
    def anywhere(cls, randomness: random.Random) -> "Block":
        """At a place and of a colour that are left to chance."""
        width, height = randomness.randint(5, 50), randomness.randint(5, 50)
        left, top = randomness.randint(0, SIDE - width), randomness.randint(0, SIDE - height)
        return cls(randomness.choice(LABELS), left, top, width, height)

    def png(self) -> bytes:
        """The picture of it."""
        image = Image.new("RGB", (SIDE, SIDE))
        colour = tuple(255 if label == self.label else 0 for label in LABELS)
        right, bottom = self.left + self.width - 1, self.top + self.height - 1
        ImageDraw.Draw(image).rectangle([self.left, self.top, right, bottom], fill=colour)
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class _Item:
    box_xyxy_norm: Floats
    scores: Floats
    bucket: int = 0


class PixelEngine:
    """Finds the block on each picture, and takes its time. confidence: the score that it gives."""

    def __init__(self, confidence: float) -> None:
        self._confidence = confidence

    def resized_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """Return the size as it is: pictures are not resized."""
        return image_hw

    def prepare(self, image: ImageRGB, phrases: Sequence[str]) -> list[_Item]:
        """Find the coloured pixels; the box follows from them."""
        rows, columns = np.nonzero(np.ptp(image, axis=2))
        height, width, _ = image.shape
        left, right = columns.min() / width, (columns.max() + 1) / width
        top, bottom = rows.min() / height, (rows.max() + 1) / height
        colour = LABELS[int(image.sum(axis=(0, 1)).argmax())]
        scores = np.array([[self._confidence * (colour in phrase) for phrase in phrases]])
        box = np.array([[left, top, right, bottom]], np.float32)
        return [_Item(box, scores.astype(np.float32))]

    def detect(self, items: Sequence[_Item]) -> list[RawDetections]:
        """Answer the prepared boxes after a fixed time per item."""
        time.sleep(ITEM_S * len(items))
        return [RawDetections(item.box_xyxy_norm, item.scores, item.scores, 0) for item in items]


def load_pixel_engine(
    card: ModelCard, folder: Path, *, device: str, precision: str, cpu_threads: int | None = None
) -> PixelEngine:
    """An `EngineLoader`."""
    del card, folder, device, precision, cpu_threads
    time.sleep(LOAD_S)
    return PixelEngine(0.75)


def load_next_engine(
    card: ModelCard, folder: Path, *, device: str, precision: str, cpu_threads: int | None = None
) -> PixelEngine:
    """Load the engine of a later version of the code, recognised by its scores."""
    del card, folder, device, precision, cpu_threads
    time.sleep(LOAD_S)
    return PixelEngine(0.875)


class LeakingEngine(PixelEngine):
    """Keeps a mebibyte of each picture."""

    def prepare(self, image: ImageRGB, phrases: Sequence[str]) -> list[_Item]:
        """Answer as the plain engine, and keep a megabyte."""
        _LEAKED.append(np.ones(1024 * 1024, np.uint8))
        return super().prepare(image, phrases)


_LEAKED: list[object] = []


def load_leaking_engine(
    card: ModelCard, folder: Path, *, device: str, precision: str, cpu_threads: int | None = None
) -> PixelEngine:
    """For the soak, which must find it."""
    del card, folder, device, precision, cpu_threads
    return LeakingEngine(0.75)


def build_app(settings: AppSettings) -> Application:
    """Return the application around this engine, as serve_app.build_app does."""
    return bind_app(settings, load_pixel_engine)


def build_next_app(settings: AppSettings) -> Application:
    """A later version of the code."""
    return bind_app(settings, load_next_engine)


def build_leaking_app(settings: AppSettings) -> Application:
    """One that must not pass for sound."""
    return bind_app(settings, load_leaking_engine)
