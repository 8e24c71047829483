"""Decoding of untrusted picture files to upright RGB arrays.

The result is the picture as a browser shows it, because the annotator draws on that: orientation
from EXIF is applied (orientation in XMP is not), of an animation the first frame is taken, and
transparent pixels become white.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import numpy as np
from PIL import Image, UnidentifiedImageError, features
from PIL.Image import Transpose
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from prelabel.errors import ImageDecodeError
from prelabel.images import avif, jpeg, tiff
from prelabel.types import ImageRGB

FORMATS: Final = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "GIF", "TIFF")
NAMES: Final = "JPEG, PNG, WebP, AVIF, BMP, GIF or TIFF"

# Formats that are named in the error message although they are refused: offset of the signature,
# the signature, and the name.
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

# EXIF 2.32, table 6: the operation that undoes orientation 2 to 8. 1 is upright; other numbers have
# no meaning.
UNDO_ORIENTATION: Final = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}

# By operation: the axes of its result, x and y, that run against those of its input.
_MIRRORED: Final = {
    Transpose.FLIP_LEFT_RIGHT: (True, False),
    Transpose.ROTATE_180: (True, True),
    Transpose.FLIP_TOP_BOTTOM: (False, True),
    Transpose.TRANSPOSE: (False, False),
    Transpose.ROTATE_270: (True, False),
    Transpose.TRANSVERSE: (True, True),
    Transpose.ROTATE_90: (False, True),
}
_SWAPS_AXES: Final = frozenset(
    (Transpose.TRANSPOSE, Transpose.ROTATE_270, Transpose.TRANSVERSE, Transpose.ROTATE_90)
)

# Every exception that Pillow's decoders raised in tests, or can raise, on damaged files. Warnings
# are exceptions if the interpreter runs with -W error. zlib.error and struct.error are neither
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


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """A picture that was decoded at full size or, from JPEG, at a fraction of it.

    Attributes:
        pixels: uint8 [h, w, 3], upright, read-only.
        wh: Width and height of the upright picture in its own pixels.
        scale: Pixels of the picture for each of `pixels`, along a side: 1, 2, 4 or 8.
        origin_xy: Where the top left corner of `pixels` lies in the picture. 0, or negative by less
            than `scale`: a JPEG is decoded in whole blocks, the last of which reach beyond it.
    """

    pixels: ImageRGB
    wh: tuple[int, int]
    scale: int = 1
    origin_xy: tuple[int, int] = (0, 0)


# Returns by how much the sides of a picture with that upright width and height may be divided:
# 1, 2, 4 or 8.
ScaleOf = Callable[[tuple[int, int]], int]


def decode_image(encoded: bytes, *, max_pixels: int) -> ImageRGB:
    """Decode a picture at full size to an upright, read-only RGB array, uint8 [H, W, 3].

    See `decode_reduced` for arguments and errors.
    """
    return decode_reduced(encoded, max_pixels=max_pixels, scale_of=lambda _: 1).pixels


def decode_reduced(encoded: bytes, *, max_pixels: int, scale_of: ScaleOf) -> DecodedImage:
    """Decode a picture no larger than needed.

    A JPEG decoder computes a half, a quarter or an eighth of the size from the first coefficients
    of each block, in a fraction of the time. Other formats are decoded at full size. Can be called
    from any thread. A JPEG without its end marker is decoded three or five times; see
    `jpeg.with_end_marker`.

    Args:
        encoded: The file's bytes.
        max_pixels: Most pixels that the header may declare; a larger picture is never allocated.
        scale_of: Chooses the size.

    Raises:
        ImageDecodeError: The bytes are not a picture of an allowed format, are damaged or cut off,
            or declare too many pixels.
    """
    probes: tuple[bytes, ...] = ()
    if encoded.startswith(jpeg.START):
        encoded, probes = jpeg.with_end_marker(encoded)
    elif avif.is_avif(encoded) and HAS_AVIF:
        avif.check_frames(encoded, max_pixels)
    elif encoded[:4] in tiff.HEADS:
        tiff.check_tiles(encoded, max_pixels)
    with _translated_errors(encoded), Image.open(BytesIO(encoded), formats=FORMATS) as image:
        _check_size(image.size, max_pixels)
        full_wh, scale = image.size, 1
        if isinstance(image, JpegImageFile):  # also those of several pictures (MPO)
            scale = _reduced(image, scale_of(_turned(full_wh, _undo_orientation(image))))
        _load(image, encoded)
        if not all(_has_same_pixels(image, probe, scale) for probe in probes):
            raise ImageDecodeError(CUT_OFF)
        # After loading, because Pillow turns TIFF files itself then, and gives them no EXIF block.
        undo = _undo_orientation(image)
        rgb = _to_rgb(image)
        pixels = np.asarray(rgb if undo is None else rgb.transpose(undo))
        decoded_wh = image.size
    if scale == 1:
        return DecodedImage(pixels, (pixels.shape[1], pixels.shape[0]))
    beyond_x, beyond_y = _turned(
        (decoded_wh[0] * scale - full_wh[0], decoded_wh[1] * scale - full_wh[1]), undo
    )
    left, top = (False, False) if undo is None else _MIRRORED[undo]
    origin = (-beyond_x if left else 0, -beyond_y if top else 0)
    return DecodedImage(pixels, _turned(full_wh, undo), scale, origin)


def _undo_orientation(image: Image.Image) -> Transpose | None:
    return UNDO_ORIENTATION.get(tiff.exif_orientation(image.info.get("exif", b"")))


def _turned(xy: tuple[int, int], operation: Transpose | None) -> tuple[int, int]:
    """Return a pair of x and y as it is after an operation."""
    return (xy[1], xy[0]) if operation in _SWAPS_AXES else xy


def _reduced(image: Image.Image, scale: int) -> int:
    """Set the scale at which a JPEG will be decoded. Returns the scale that Pillow chose."""
    width, height = image.size
    if scale == 1 or image.draft(None, (width // scale, height // scale)) is None:
        return 1
    return scale


def _load(image: Image.Image, encoded: bytes) -> None:
    """Decode a picture in one step.

    By default Pillow decodes steps of 64 KB. A JPEG decoder begins the block at each end again, and
    a thread waits for the interpreter's lock after each step.
    """
    if isinstance(image, ImageFile):
        image.decodermaxblock = max(image.decodermaxblock, len(encoded))
    image.load()


def _has_same_pixels(image: Image.Image, encoded: bytes, scale: int) -> bool:
    with Image.open(BytesIO(encoded), formats=FORMATS) as other:
        _reduced(other, scale)
        _load(other, encoded)
        return np.array_equal(np.asarray(image), np.asarray(other))


def _check_size(image_wh: tuple[int, int], max_pixels: int) -> None:
    width, height = image_wh
    if width * height > max_pixels:
        raise ImageDecodeError(
            f"The picture has {width} x {height} pixels, more than the {max_pixels} that are "
            "allowed; make it smaller or raise images.max_pixels."
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to 8-bit RGB."""
    if image.mode.startswith("I;16"):
        # Pillow's own conversion cuts at 255 instead of scaling.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ImageDecodeError(
            "The picture has 32-bit pixels, which browsers do not show; save it with 8 or 16 bits."
        )
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it
    # By way of RGBA, because Pillow has no direct conversion from "La" and "PA".
    layer = image.convert("RGBA")
    white = Image.new("RGB", layer.size, "white")
    white.paste(layer, mask=layer.getchannel("A"))
    return white


@contextmanager
def _translated_errors(encoded: bytes) -> Iterator[None]:
    """Turn exceptions of Pillow into an ImageDecodeError with a message for the user."""
    try:
        yield
    except ImageDecodeError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageDecodeError(
            "The picture has far more pixels than are allowed; make it smaller."
        ) from error
    except UnidentifiedImageError as error:
        raise ImageDecodeError(_unidentified_message(encoded)) from error
    except PILLOW_ERRORS as error:
        raise ImageDecodeError(CUT_OFF) from error


def _unidentified_message(encoded: bytes) -> str:
    if not encoded:
        return "The picture's file is empty; upload it again."
    if encoded.lstrip()[:1] == b"<":
        kind = "an SVG drawing" if b"<svg" in encoded[:1000] else "a web page"
        return f"The picture's address answers with {kind}; give the address of a {NAMES} file."
    if avif.is_avif(encoded) and not HAS_AVIF:
        return (
            "The picture is an AVIF file, which the service's Pillow was built without; install "
            "Pillow from PyPI, or convert the picture."
        )
    for offset, signature, kind in REFUSED:
        if encoded.startswith(signature, offset):
            return (
                f"The picture is {kind}, not a readable {NAMES} file; convert it to one of these."
            )
    return (
        f"The picture is not a readable {NAMES} file; "
        "convert it to one of these, or upload it again if it is one."
    )
