"""TIFF structures: the tiles of a TIFF file, and the orientation in an EXIF block.

Pillow is not used for either. It skips tags that its decoder reads. It applies the orientation in
XMP, and warns about damaged EXIF or fails on it; browsers ignore both.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from prelabel.errors import ImageDecodeError

# TIFF 6.0, section 2, and BigTIFF: byte order, and whether offsets have 8 bytes.
HEADS: Final = {
    b"II*\0": ("<", False),
    b"MM\0*": (">", False),
    b"II+\0": ("<", True),
    b"MM\0+": (">", True),
}
_SHORT: Final = 3
_LONG: Final = 4
_ORIENTATION_TAG: Final = 0x0112
_TILE_TAGS: Final = {322: "width", 323: "length"}


def check_tiles(encoded: bytes, max_pixels: int) -> None:
    """Raise ImageDecodeError if a TIFF's tiles have more than `max_pixels` pixels.

    A tile is unpacked whole, even if the picture is only a corner of it.
    """
    sides = {"width": 0, "length": 0}
    for tag, kind, count, value in _first_directory(encoded):
        if tag in _TILE_TAGS:
            # Values of other types stand elsewhere in the file. The specification allows these two.
            known = value if kind in (_SHORT, _LONG) and count == 1 else max_pixels + 1
            sides[_TILE_TAGS[tag]] = max(sides[_TILE_TAGS[tag]], known)
    if sides["width"] * sides["length"] > max_pixels:
        raise ImageDecodeError(
            f"The picture is stored in tiles of more than the {max_pixels} pixels that are "
            "allowed; save it with smaller tiles, or without."
        )


def exif_orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8, in an EXIF block; 1 if it is missing or damaged.

    Browsers take 1 in these cases as well. Numbers out of range are returned as they are.
    """
    for tag, kind, count, value in _first_directory(exif.removeprefix(b"Exif\0\0")):
        if (tag, kind, count) == (_ORIENTATION_TAG, _SHORT, 1):
            return value
    return 1


def _first_directory(tiff: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield tag, type, count and value of each entry in the first directory.

    The value is right for a single SHORT or LONG only. A damaged directory ends early.
    """
    order, is_big = HEADS.get(tiff[:4], ("", False))
    if not order:
        return
    offset, length = (f"{order}Q", f"{order}Q") if is_big else (f"{order}I", f"{order}H")
    fields = f"{order}HH{offset[1]}"
    value_at, entry_bytes = struct.calcsize(fields), 20 if is_big else 12
    try:
        (start,) = struct.unpack_from(offset, tiff, 8 if is_big else 4)
        (entries,) = struct.unpack_from(length, tiff, start)
        start += struct.calcsize(length)
        for position in range(start, start + entry_bytes * entries, entry_bytes):
            tag, kind, count = struct.unpack_from(fields, tiff, position)
            number = f"{order}{'H' if kind == _SHORT else 'I'}"
            (value,) = struct.unpack_from(number, tiff, position + value_at)
            yield tag, kind, count, value
    except (struct.error, OverflowError):
        return
