"""Speed of preparing a photograph: from a JPEG file to a model's input, on one thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from io import BytesIO

import numpy as np
from PIL import Image

from benchmarks.measurement import interleaved
from benchmarks.payloads import photograph
from benchmarks.service_figures import Figures
from prelabel.checkpoints.cards import ImageSize
from prelabel.detection.reduction import reduction, seen_sizes
from prelabel.detection.tiling import Tile
from prelabel.engines.preprocess import resized_hw, to_pixels
from prelabel.images.decode import decode_reduced

_ROUNDS = 9
_MAX_PIXELS = 100_000_000
_SIZE, _QUERIES = ImageSize(shortest_edge=800, longest_edge=1333), 900  # published checkpoints


def prepare_figures() -> Figures:
    """Measure a usual picture, which is decoded whole, and one of 12 megapixels.

    Yields milliseconds of processor time, the least of some rounds, and their share of those that
    Pillow takes for the whole picture.
    """
    for wh in ((1280, 853), (4000, 3000)):
        encoded = photograph(wh)
        works = {
            "prepared": partial(_cpu_seconds, partial(_prepare, encoded)),
            "by_pillow": partial(_cpu_seconds, partial(_prepare_by_pillow, encoded)),
        }
        taken_s = {name: min(values) for name, values in interleaved(works, _ROUNDS).items()}
        name = f"prepare_{wh[0]}x{wh[1]}"
        yield f"{name}_ms", taken_s["prepared"] * 1000
        yield f"{name}_share", taken_s["prepared"] / taken_s["by_pillow"]


def _seen_hw(image_hw: tuple[int, int]) -> tuple[int, int]:
    return resized_hw(image_hw, _SIZE, _QUERIES)


def _prepare(encoded: bytes) -> object:
    """Prepare a picture as the service does."""

    def scale_of(wh: tuple[int, int]) -> int:
        return reduction(wh, seen_sizes([Tile(0, 0, *wh)], _seen_hw))

    pixels = decode_reduced(encoded, max_pixels=_MAX_PIXELS, scale_of=scale_of).pixels
    return to_pixels(pixels, _seen_hw((pixels.shape[0], pixels.shape[1])))


def _prepare_by_pillow(encoded: bytes) -> object:
    """Decode all pixels and resize them, as usual."""
    image = Image.open(BytesIO(encoded)).convert("RGB")
    height, width = _seen_hw((image.height, image.width))
    return np.array(image.resize((width, height), Image.Resampling.BILINEAR))


def _cpu_seconds(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began
