"""An engine that counts its calls, and queries for it."""

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from prelabel.errors import DetectionError
from prelabel.types import DetectionQuery, ImageRGB, RawDetections, Thresholds

SCORES = np.array([0.9, 0.6, 0.4, 0.2], np.float32)


@dataclass(frozen=True)
class Item:
    pixels: ImageRGB
    phrases: tuple[str, ...]
    bucket: str = "one"


class CountingEngine:
    """An engine that finds four boxes for each phrase, with falling scores, and counts its items.

    chunk: most phrases of an item; broken: every pass fails; seconds: duration of a pass.
    """

    def __init__(self, chunk: int = 1000, *, broken: bool = False, seconds: float = 0) -> None:
        self._chunk, self._broken, self._seconds = chunk, broken, seconds
        self.prepared: list[tuple[int, int]] = []
        self.images: list[ImageRGB] = []  # referenced, so that no two share an address
        self.seen = 0

    def resized_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        return image_hw

    def prepare(self, image: ImageRGB, phrases: Sequence[str]) -> list[Item]:
        self.prepared.append((image.shape[0], image.shape[1]))
        self.images.append(image)
        starts = range(0, len(phrases), self._chunk)
        return [Item(image, tuple(phrases[i : i + self._chunk])) for i in starts]

    def detect(self, items: Sequence[Item]) -> list[RawDetections]:
        self.seen += len(items)
        time.sleep(self._seconds)
        if self._broken:
            raise DetectionError("broken")
        return [self._raw(len(item.phrases)) for item in items]

    def _raw(self, phrases: int) -> RawDetections:
        corner = np.linspace(0.1, 0.5, len(SCORES))[:, None]
        boxes = np.hstack([corner, corner, corner + 0.2, corner + 0.2])
        scores = np.repeat(SCORES[:, None], phrases, axis=1)
        return RawDetections(boxes, scores, scores, 0)


def encoded(size: tuple[int, int] = (60, 40), colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def query(
    image: bytes | None = None,
    phrases: tuple[Any, ...] = ("cat",),
    box: float = 0.3,
    *,
    urgent: bool = True,
) -> DetectionQuery:
    return DetectionQuery(image or encoded(), phrases, Thresholds(box, 0.0), urgent)
