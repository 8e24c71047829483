"""Resizing of pictures: the values of Pillow's bilinear filter, in a fifth of its time.

A model that was trained on pictures that Pillow had resized finds other objects in pictures that
were resized by another library, although they differ by one in a few values only. Therefore the C
kernel computes exactly what Pillow computes.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from prelabel.engines.kernels.arguments import sizes
from prelabel.engines.kernels.library import kernels
from prelabel.types import ImageRGB

_PRECISION_BITS = 22  # of a weight, PRECISION_BITS in resize.c
_ROWS = 16  # ROWS in resize.c
_PAIRS_OF_SIZES = 256  # whose weights are kept, 30 KB each


@dataclass(frozen=True, slots=True)
class _Weights:
    """The weights of one direction, from N input to M output indices.

    Attributes:
        first: int64 [M], the first of T input indices of an output index.
        weights: int32 [M, T], in units of 2 ** -22.
    """

    first: NDArray[np.int64]
    weights: NDArray[np.int32]


def resize_bilinear(image: ImageRGB, hw: tuple[int, int]) -> ImageRGB:
    """Resize a picture as Pillow's `Image.resize` does with `Resampling.BILINEAR`.

    The filter covers all pixels that become one (it is antialiased). Can be called from any thread;
    the kernel runs without the interpreter's lock.

    Args:
        image: uint8 [H, W, 3]; a part of a picture need not be copied for it.
        hw: Height and width in pixels of the result.

    Returns:
        A new array, uint8 [*hw, 3].
    """
    library = kernels()
    if library is None or image.strides[1:] != (3, 1):
        resized = Image.fromarray(image).resize((hw[1], hw[0]), Image.Resampling.BILINEAR)
        return np.array(resized)
    steps = [(_resize_rows, hw[1]), (_resize_columns, hw[0])]
    if _columns_first((image.shape[0], image.shape[1]), hw):
        steps.reverse()
    for resize, size in steps:
        image = resize(library, image, size)
    return image


def _columns_first(hw: tuple[int, int], out_hw: tuple[int, int]) -> bool:
    """Return the order of Pillow 13, which changes the rounding. (Older ones: rows first.)"""
    height, width = (size - out_size for size, out_size in zip(hw, out_hw, strict=True))
    return height > 0 and height > 2 * width


def _resize_rows(library: ctypes.CDLL, image: ImageRGB, size: int) -> ImageRGB:
    height, width = image.shape[:2]
    table = _bilinear(width, size)
    out = np.empty((height, size, 3), dtype=np.uint8)
    columns, sums = (np.empty(count * 3 * _ROWS, dtype=np.uint8) for count in (width, size))
    library.resize_rows(
        *_addresses(image, table.first, table.weights, columns, sums, out),
        *sizes(image.strides[0], height, width, size, table.weights.shape[1]),
    )
    return out


def _resize_columns(library: ctypes.CDLL, image: ImageRGB, size: int) -> ImageRGB:
    height, width = image.shape[:2]
    table = _bilinear(height, size)
    out = np.empty((size, width, 3), dtype=np.uint8)
    library.resize_columns(
        *_addresses(image, table.first, table.weights, out),
        *sizes(image.strides[0], width, size, table.weights.shape[1]),
    )
    return out


def _addresses(*arrays: NDArray[Any]) -> list[ctypes.c_void_p]:
    return [ctypes.c_void_p(array.ctypes.data) for array in arrays]


@lru_cache(_PAIRS_OF_SIZES)
def _bilinear(size: int, out_size: int) -> _Weights:
    """Return the weights that reduce or enlarge `size` pixels to `out_size`.

    Ported from `precompute_coeffs` and `normalize_coeffs_8bpc` of Pillow's Resample.c, in the same
    order of operations.
    """
    scale = size / out_size
    support = max(scale, 1.0)
    centre = (np.arange(out_size) + 0.5) * scale
    begin = np.maximum(np.trunc(centre - support + 0.5), 0).astype(np.int64)
    end = np.minimum(np.trunc(centre + support + 0.5), size).astype(np.int64)
    taps = int((end - begin).max())
    # The last output indices have fewer. Weights of 0 in front of them keep all indices inside.
    first = np.minimum(begin, size - taps)
    index = first[:, None] + np.arange(taps)
    inside = (index >= begin[:, None]) & (index < end[:, None])
    distance = np.abs((index - centre[:, None] + 0.5) * (1 / support))
    exact = np.where(inside, np.maximum(1 - distance, 0), 0)
    total = np.zeros(out_size)
    for tap in range(taps):  # in Pillow's order; numpy's sum would round otherwise
        total += exact[:, tap]
    exact /= total[:, None]
    return _Weights(first, np.trunc(0.5 + exact * 2.0**_PRECISION_BITS).astype(np.int32))
