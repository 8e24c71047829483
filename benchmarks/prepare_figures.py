"""Speed of preparing a photograph: from a JPEG file to a model's input, on one thread."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO

import numpy as np
from PIL import Image

from benchmarks.measurement import Figures, interleaved, per_s
from benchmarks.payloads import photograph
from prelabel.checkpoints.cards import ImageSize
from prelabel.detection.reduction import reduction, seen_sizes
from prelabel.detection.tiling import Tile
from prelabel.engines.preprocess import resized_hw, to_pixels
from prelabel.images.decode_pool import Decode, DecodePool, decode_here

_ROUNDS = 9
_SECONDS = 5.0
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
            "prepared": partial(_cpu_seconds, partial(prepare, encoded)),
            "by_pillow": partial(_cpu_seconds, partial(_prepare_by_pillow, encoded)),
        }
        taken_s = {name: min(values) for name, values in interleaved(works, _ROUNDS).items()}
        name = f"prepare_{wh[0]}x{wh[1]}"
        yield f"{name}_ms", taken_s["prepared"] * 1000
        yield f"{name}_share", taken_s["prepared"] / taken_s["by_pillow"]


def process_figures() -> Figures:
    """Measure processes that decode 12 megapixels while a thread of this one holds Python's lock.

    Yields photographs per second of one process and of two, and the share of its speed that the
    thread keeps beside two.
    """
    encoded = photograph((4000, 3000))
    pool = DecodePool(2)
    switch_s = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)  # as a detector on a GPU has it
    try:
        with _busy_python() as held:
            alone = _held_per_s(held)
            one, _ = _prepared_per_s(pool, encoded, 1, held)
            two, kept = _prepared_per_s(pool, encoded, 2, held)
    finally:
        sys.setswitchinterval(switch_s)
        pool.close()
    yield "prepare_one_process_per_s", one
    yield "prepare_two_processes_per_s", two
    yield "prepare_two_over_one_process", two / one
    yield "prepare_python_keeps", kept / alone


@contextmanager
def _busy_python() -> Iterator[list[int]]:
    """Run a thread that holds the interpreter's lock, without using a core, and counts."""
    hold_us = ctypes.PyDLL(None).usleep  # unlike CDLL, it keeps the lock
    held, stop = [0], threading.Event()

    def hold() -> None:
        while not stop.is_set():
            hold_us(500)
            held[0] += 1

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        yield held
    finally:
        stop.set()
        thread.join()


def _held_per_s(held: list[int]) -> float:
    before = held[0]
    time.sleep(1)
    return held[0] - before


def _prepared_per_s(
    pool: DecodePool, encoded: bytes, threads: int, held: list[int]
) -> tuple[float, float]:
    """Return photographs and counts of the busy thread per second."""
    before = held[0]
    photographs = per_s(partial(prepare, encoded, pool), threads, _SECONDS)
    return photographs, (held[0] - before) / _SECONDS


def _seen_hw(image_hw: tuple[int, int]) -> tuple[int, int]:
    return resized_hw(image_hw, _SIZE, _QUERIES)


def _scale_of(wh: tuple[int, int]) -> int:
    return reduction(wh, seen_sizes([Tile(0, 0, *wh)], _seen_hw))


def prepare(encoded: bytes, decode: Decode = decode_here) -> object:
    """Prepare a picture as the service does."""
    pixels = decode(encoded, _MAX_PIXELS, _scale_of).pixels
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
