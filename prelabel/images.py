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
from PIL import Image, UnidentifiedImageError
from PIL.Image import Transpose

from prelabel.errors import ImageDecodeError
from prelabel.types import ImageRGB

FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")

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
EXIF_SHORT: Final = 3

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
    with _sentences(encoded), Image.open(BytesIO(encoded), formats=FORMATS) as image:
        _check_size(image.size, max_pixels)
        image.load()
        undo = UNDO_ORIENTATION.get(_orientation(image))
        rgb = _to_rgb(image)
        return np.array(rgb if undo is None else rgb.transpose(undo))


def _check_size(image_wh: tuple[int, int], max_pixels: int) -> None:
    width, height = image_wh
    if width * height > max_pixels:
        raise ImageDecodeError(
            f"The picture has {width} x {height} pixels, more than the {max_pixels} that are "
            "allowed; make it smaller or raise max_image_pixels."
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
    return _tag_of_first_directory(exif.removeprefix(b"Exif\0\0")) or 1


def _tag_of_first_directory(tiff: bytes) -> int | None:
    """The orientation tag in the first directory of a TIFF structure."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for entry in range(count):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, start + 2 + 12 * entry)
            if (tag, kind) == (ORIENTATION_TAG, EXIF_SHORT):
                return int(value)
    except struct.error:
        return None
    return None


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
        raise ImageDecodeError("The picture is damaged or cut off; upload it again.") from error


def _unidentified(encoded: bytes) -> str:
    if not encoded:
        return "The picture's file is empty; upload it again."
    if encoded.lstrip()[:1] == b"<":
        return (
            "The picture's address answers with a web page or an SVG drawing; "
            "give the address of a JPEG, PNG, WebP, BMP, GIF or TIFF file."
        )
    return (
        "The picture is no readable JPEG, PNG, WebP, BMP, GIF or TIFF file; "
        "convert it to one of these, or upload it again if it is one."
    )
