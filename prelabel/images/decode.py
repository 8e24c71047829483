"""Encoded pictures, which strangers made, to upright RGB arrays.

Only what a browser shows counts: the annotator draws on that. So EXIF orientation is applied (and
orientation that stands elsewhere, in XMP, is not), of an animation the first frame is taken, and
what is transparent is white.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Final

import numpy as np
from PIL import Image, UnidentifiedImageError, features
from PIL.Image import Transpose

from prelabel.errors import ImageDecodeError
from prelabel.images import avif, jpeg
from prelabel.types import ImageRGB

FORMATS: Final = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "GIF", "TIFF")
NAMES: Final = "JPEG, PNG, WebP, AVIF, BMP, GIF or TIFF"

# Refused, but by their names: where their mark stands, the mark, and what they are.
REFUSED: Final = (
    (4, b"ftyphe", "a HEIC file"),
    (4, b"ftypmif1", "a HEIC file"),
    (4, b"ftypmsf1", "a HEIC file"),
    (4, b"jP  \r\n", "a JPEG 2000 file"),
    (4, b"JXL \r\n", "a JPEG XL file"),
    (0, b"\xff\x0a", "a JPEG XL file"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"%!PS", "a PostScript document"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"\x1f\x8b", "a compressed file"),
    (0, b"PK\x03\x04", "a ZIP archive"),
)

CUT_OFF: Final = "The picture is damaged or cut off; upload it again."
# Pillow's own wheels have it; distributions build Pillow without.
HAS_AVIF: Final = features.check("avif")

# EXIF 2.32, table 6: what undoes orientation 2 to 8. 1 is upright; other numbers mean nothing.
UNDO_ORIENTATION: Final = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
ORIENTATION_TAG: Final = 0x0112
TILE_TAGS: Final = {322: "width", 323: "length"}

# TIFF 6.0, section 2, and BigTIFF: byte order and whether it is the big one; types of numbers.
TIFF_HEADS: Final = {
    b"II*\0": ("<", False),
    b"MM\0*": (">", False),
    b"II+\0": ("<", True),
    b"MM\0+": (">", True),
}
SHORT: Final = 3
LONG: Final = 4

# All that Pillow's decoders were seen to raise, or can raise, on damaged files. Warnings are
# exceptions where the interpreter runs with -W error. zlib.error and struct.error are neither
# OSError nor ValueError.
PILLOW_ERRORS: Final = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    RuntimeError,
    SyntaxError,
    MemoryError,
    BufferError,
    struct.error,
    zlib.error,
    Warning,
)


def decode_image(encoded: bytes, *, max_pixels: int) -> ImageRGB:
    """Upright picture [H, W, 3] uint8, of its own and writable. Can be called from any thread.

    Raises ImageDecodeError if the bytes are no picture of an allowed format, are damaged or cut
    off, or if the header claims more than `max_pixels`; these are never allocated.
    """
    probes: tuple[bytes, ...] = ()
    if encoded.startswith(jpeg.START):
        encoded, probes = jpeg.close(encoded)
    elif avif.is_avif(encoded) and HAS_AVIF:
        avif.check_frames(encoded, max_pixels)
    elif encoded[:4] in TIFF_HEADS:
        _check_tiles(encoded, max_pixels)
    with _sentences(encoded), Image.open(BytesIO(encoded), formats=FORMATS) as image:
        _check_size(image.size, max_pixels)
        image.load()
        if not all(_same_pixels(image, probe) for probe in probes):
            raise ImageDecodeError(CUT_OFF)
        undo = UNDO_ORIENTATION.get(_orientation(image))
        rgb = _to_rgb(image)
        return np.array(rgb if undo is None else rgb.transpose(undo))


def _same_pixels(image: Image.Image, encoded: bytes) -> bool:
    with Image.open(BytesIO(encoded), formats=FORMATS) as other:
        other.load()
        return np.array_equal(np.asarray(image), np.asarray(other))


def _check_size(image_wh: tuple[int, int], max_pixels: int) -> None:
    width, height = image_wh
    if width * height > max_pixels:
        raise ImageDecodeError(
            f"The picture has {width} x {height} pixels, more than the {max_pixels} that are "
            "allowed; make it smaller or raise images.max_pixels."
        )


def _check_tiles(encoded: bytes, max_pixels: int) -> None:
    """A TIFF's tile is unpacked whole, also where the picture is only a corner of it.

    Pillow is not asked: it overlooks tags that the decoder behind it reads.
    """
    sides = {"width": 0, "length": 0}
    for tag, kind, count, value in _first_directory(encoded):
        if tag in TILE_TAGS:
            # Of another type, the number stands elsewhere; the specification has these two.
            known = value if kind in (SHORT, LONG) and count == 1 else max_pixels + 1
            sides[TILE_TAGS[tag]] = max(sides[TILE_TAGS[tag]], known)
    if sides["width"] * sides["length"] > max_pixels:
        raise ImageDecodeError(
            f"The picture is stored in tiles of more than the {max_pixels} pixels that are "
            "allowed; save it with smaller tiles, or without."
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to 8-bit RGB."""
    if image.mode.startswith("I;16"):
        # Pillow's own conversion cuts at 255 instead of scaling.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ImageDecodeError(
            "The picture has 32-bit pixels, which browsers do not show; save it with 8 or 16 bits."
        )
    if not image.has_transparency_data:
        return image.convert("RGB")
    # By way of RGBA, because "La" and "PA" have no straight road.
    layer = image.convert("RGBA")
    white = Image.new("RGB", layer.size, "white")
    white.paste(layer, mask=layer.getchannel("A"))
    return white


def _orientation(image: Image.Image) -> int:
    """1 to 8 by the EXIF block; 1 where it is missing or damaged, as in browsers.

    Pillow's own reader is not used: it also believes XMP, which browsers do not, and warns about
    or fails on damaged EXIF, which browsers overlook. (Pillow turns TIFF files itself and gives
    them no EXIF block.)
    """
    exif = image.info.get("exif", b"")
    for tag, kind, count, value in _first_directory(exif.removeprefix(b"Exif\0\0")):
        if (tag, kind, count) == (ORIENTATION_TAG, SHORT, 1):
            return value
    return 1


def _first_directory(tiff: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Tag, type, count and value (where that is one SHORT or LONG) of each entry in the first
    directory of a TIFF structure; of a damaged one, as many as there are.
    """
    order, is_big = TIFF_HEADS.get(tiff[:4], ("", False))
    if not order:
        return
    offset, length = (f"{order}Q", f"{order}Q") if is_big else (f"{order}I", f"{order}H")
    fields = f"{order}HH{offset[1]}"
    value_at, entry = struct.calcsize(fields), 20 if is_big else 12
    try:
        (start,) = struct.unpack_from(offset, tiff, 8 if is_big else 4)
        (entries,) = struct.unpack_from(length, tiff, start)
        start += struct.calcsize(length)
        for place in range(start, start + entry * entries, entry):
            tag, kind, count = struct.unpack_from(fields, tiff, place)
            number = f"{order}{'H' if kind == SHORT else 'I'}"
            (value,) = struct.unpack_from(number, tiff, place + value_at)
            yield tag, kind, count, value
    except (struct.error, OverflowError):
        return


@contextmanager
def _sentences(encoded: bytes) -> Iterator[None]:
    """Turns whatever Pillow raises into a sentence for the user."""
    try:
        yield
    except ImageDecodeError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageDecodeError(
            "The picture has far more pixels than are allowed; make it smaller."
        ) from error
    except UnidentifiedImageError as error:
        raise ImageDecodeError(_unidentified(encoded)) from error
    except PILLOW_ERRORS as error:
        raise ImageDecodeError(CUT_OFF) from error


def _unidentified(encoded: bytes) -> str:
    if not encoded:
        return "The picture's file is empty; upload it again."
    if encoded.lstrip()[:1] == b"<":
        what = "an SVG drawing" if b"<svg" in encoded[:1000] else "a web page"
        return f"The picture's address answers with {what}; give the address of a {NAMES} file."
    if avif.is_avif(encoded) and not HAS_AVIF:
        return (
            "The picture is an AVIF file, which the service's Pillow was built without; install "
            "Pillow from PyPI, or convert the picture."
        )
    for place, head, what in REFUSED:
        if encoded.startswith(head, place):
            return (
                f"The picture is {what} and no readable {NAMES} file; convert it to one of these."
            )
    return (
        f"The picture is no readable {NAMES} file; "
        "convert it to one of these, or upload it again if it is one."
    )
