"""Masks as PNG pictures of one bit a pixel: black on transparent, as Label Studio's bitmask."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

from prelabel.masks.runs import bounds, mask_of_runs
from prelabel.types import Ints

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PALETTE = bytes(6)  # two colours, both black
_ALPHA = b"\x00\xff"  # the first is transparent
_ONE_BIT, _INDEXED = 1, 3  # bit depth and colour type of the header
# Most of a mask are long runs of equal bytes. Looking for them alone gives fewer bytes than zlib's
# default strategy in half of the time (12 megapixels: 5.9 kB in 2.4 ms, 6.3 kB in 5.5 ms).
_STRATEGY = zlib.Z_RLE


def bitmask_png(runs: Ints, image_wh: tuple[int, int]) -> bytes:
    """Encode a mask of a whole picture as a PNG file of the picture's size.

    Args:
        runs: [N, 2] of the picture.
        image_wh: Width and height of the picture.
    """
    width, height = image_wh
    # Each row begins with the number of its filter: 0, none (PNG specification, section 9).
    rows = np.zeros((height, 1 + (width + 7) // 8), dtype=np.uint8)
    box = bounds(runs, width)
    if box is not None:
        left, top, right, bottom = box
        left -= left % 8
        packed = np.packbits(mask_of_runs(runs, image_wh, (left, top, right, bottom)), axis=1)
        rows[top:bottom, 1 + left // 8 : 1 + left // 8 + packed.shape[1]] = packed
    deflate = zlib.compressobj(1, strategy=_STRATEGY)
    header = struct.pack(">IIBBBBB", width, height, _ONE_BIT, _INDEXED, 0, 0, 0)
    return b"".join(
        (
            _SIGNATURE,
            _chunk(b"IHDR", header),
            _chunk(b"PLTE", _PALETTE),
            _chunk(b"tRNS", _ALPHA),
            _chunk(b"IDAT", deflate.compress(rows.data) + deflate.flush()),
            _chunk(b"IEND", b""),
        )
    )


def bitmask_data_url(runs: Ints, image_wh: tuple[int, int]) -> str:
    """Encode a mask of a whole picture as the `data:` URL of a PNG file."""
    return "data:image/png;base64," + base64.b64encode(bitmask_png(runs, image_wh)).decode()


def _chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )
