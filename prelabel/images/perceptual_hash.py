"""Perceptual hashes: numbers that pictures share if they look alike."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from PIL import Image

from prelabel.types import Floats, ImageRGB

_SIDE: Final = 32  # pixels of the reduced picture
_FREQUENCIES: Final = 8  # the lowest ones, in each direction


def perceptual_hash(image: ImageRGB) -> int:
    """Return the pHash of a picture: 64 bits, which differ in few places for similar pictures.

    Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010): the lowest
    frequencies of the grey picture's discrete cosine transform, compared with their median. It
    stays nearly the same when a picture is resized or compressed again, and differs in about half
    of the bits for other pictures.

    Args:
        image: uint8 [H, W, 3].
    """
    # The gap reduces a large picture by whole pixels first, which is twice as fast.
    small = Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    grey = np.asarray(small.convert("L"), dtype=np.float64)
    frequencies = _COSINES @ grey @ _COSINES.T
    bits = (frequencies > np.median(frequencies)).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _cosines() -> Floats:
    """Return the first rows of the transform (DCT-II), [_FREQUENCIES, _SIDE]."""
    positions = (np.arange(_SIDE) + 0.5) * math.pi / _SIDE
    cosines: Floats = np.cos(np.arange(_FREQUENCIES)[:, None] * positions[None, :])
    return cosines


_COSINES: Final = _cosines()
