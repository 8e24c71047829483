from __future__ import annotations

import random
import struct
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageOps

from prelabel.errors import ImageDecodeError
from prelabel.images.decode import decode_image
from prelabel.settings.paths import PROJECT_ROOT
from prelabel.types import ImageRGB

# Damaged TIFF and EXIF directories make Pillow warn and go on; so must we.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

ENOUGH = 1_000_000
COLOURS = np.random.default_rng(0).integers(0, 256, (24, 31, 3), dtype=np.uint8)
PICTURE = Image.fromarray(COLOURS)
MPO = "MPO"  # what two-lens cameras write: a JPEG with more behind it


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decode(encoded: bytes) -> ImageRGB:
    return decode_image(encoded, max_pixels=ENOUGH)


def exif(orientation: int, order: str = "<", kind: int = 3) -> bytes:
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    entry = struct.pack(f"{order}HHIHH", 0x0112, kind, 1, orientation, 0)
    return b"Exif\0\0" + head + struct.pack(f"{order}H", 1) + entry + b"\0\0\0\0"


def png(width: int, height: int, depth: int, colour: int, *rest: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = (b"IHDR" + header, *rest, b"IEND")
    framed = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


ENCODED = {
    "jpeg": encode(PICTURE, "JPEG"),
    "jpeg progressive": encode(PICTURE, "JPEG", progressive=True),
    "jpeg gray": encode(PICTURE.convert("L"), "JPEG"),
    "jpeg cmyk": encode(PICTURE.convert("CMYK"), "JPEG"),
    "jpeg of two lenses": encode(PICTURE, MPO, save_all=True, append_images=[PICTURE]),
    "png": encode(PICTURE, "PNG"),
    "png palette": encode(PICTURE.quantize(16), "PNG"),
    "png bilevel": encode(PICTURE.convert("1"), "PNG"),
    "png animated": encode(PICTURE, "PNG", save_all=True, append_images=[PICTURE.rotate(180)]),
    "webp": encode(PICTURE, "WEBP"),
    "webp lossless": encode(PICTURE, "WEBP", lossless=True),
    "webp animated": encode(PICTURE, "WEBP", save_all=True, append_images=[PICTURE.rotate(180)]),
    "avif": encode(PICTURE, "AVIF"),
    "avif gray": encode(PICTURE.convert("L"), "AVIF"),
    "avif transparent": encode(PICTURE.convert("RGBA"), "AVIF"),
    "avif animated": encode(PICTURE, "AVIF", save_all=True, append_images=[PICTURE.rotate(180)]),
    "bmp": encode(PICTURE, "BMP"),
    "bmp palette": encode(PICTURE.quantize(16), "BMP"),
    "gif": encode(PICTURE.quantize(16), "GIF"),
    "gif animated": encode(PICTURE, "GIF", save_all=True, append_images=[PICTURE.rotate(180)]),
    "tiff": encode(PICTURE, "TIFF"),
    "tiff lzw": encode(PICTURE, "TIFF", compression="tiff_lzw"),
    "tiff jpeg": encode(PICTURE, "TIFF", compression="jpeg"),
    "tiff fax": encode(PICTURE.convert("1"), "TIFF", compression="group4"),
    "tiff pages": encode(PICTURE, "TIFF", save_all=True, append_images=[PICTURE.rotate(180)]),
}
LOSSLESS = ["png", "png animated", "webp lossless", "bmp", "tiff", "tiff lzw", "tiff pages"]


@pytest.mark.parametrize("name", ENCODED)
def test_every_format_gives_height_width_rgb(name: str) -> None:
    decoded = decode(ENCODED[name])
    assert decoded.shape == (24, 31, 3)
    assert decoded.dtype == np.uint8
    assert not decoded.flags.writeable  # without another copy
    assert decoded.flags.c_contiguous


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_formats_give_the_exact_pixels_of_the_first_frame(name: str) -> None:
    np.testing.assert_array_equal(decode(ENCODED[name]), COLOURS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "BMP", "GIF", "TIFF"])
def test_a_single_pixel_is_a_picture(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    encoded = encode(Image.new("RGB", (1, 1), (255, 255, 255)), kind, **options)
    np.testing.assert_array_equal(decode(encoded), np.full((1, 1, 3), 255))


# The picture of eight cameras: 1 2 3 in the upper row and 4 5 6 in the lower one, upright.
UPRIGHT = np.array([[1, 2, 3], [4, 5, 6]], np.uint8) * 40
STORED = {
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[3, 6], [2, 5], [1, 4]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[4, 1], [5, 2], [6, 3]],
}


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_is_undone(orientation: int, order: str) -> None:
    stored = Image.fromarray(np.array(STORED[orientation], np.uint8) * 40)
    encoded = encode(stored, "PNG", exif=exif(orientation, order))
    np.testing.assert_array_equal(decode(encoded)[..., 0], UPRIGHT)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_agrees_with_pillow(orientation: int, kind: str) -> None:
    tags = Image.Exif()
    tags[0x0112] = orientation
    encoded = encode(PICTURE, kind, exif=tags)
    with Image.open(BytesIO(encoded)) as image:
        image.load()
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert expected.shape == ((31, 24, 3) if orientation >= 5 else (24, 31, 3))
    np.testing.assert_array_equal(decode(encoded), expected)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "block",
    [
        exif(0),
        exif(9),
        exif(6, kind=4),
        exif(6).replace(struct.pack("<I", 1), struct.pack("<I", 2), 1),
        exif(6)[:-9],
        exif(6)[:12],
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x01" * 40,
        b"nonsense",
    ],
)
def test_damaged_exif_is_overlooked_as_in_browsers(block: bytes, kind: str) -> None:
    assert decode(encode(PICTURE, kind, exif=block)).shape == (24, 31, 3)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_orientation_in_xmp_alone_is_not_believed_as_in_browsers(kind: str) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
    encoded = encode(PICTURE, kind, xmp=xmp)
    with Image.open(BytesIO(encoded)) as image:
        assert ImageOps.exif_transpose(image).size == (24, 31)  # Pillow does believe it
    assert decode(encoded).shape == (24, 31, 3)


def test_sixteen_bits_are_scaled_and_not_cut() -> None:
    values = np.array([[0, 255, 256, 0x8000, 0xFFFF]], np.uint16)
    for kind in ("PNG", "TIFF"):
        decoded = decode(encode(Image.fromarray(values), kind))
        assert decoded.tolist() == [[[value] * 3 for value in (0, 0, 1, 128, 255)]]


def test_sixteen_bit_colours_are_scaled() -> None:
    row = b"\0" + struct.pack(">6H", 0, 0x8000, 0xFFFF, 0x1234, 0, 0xFF00)
    decoded = decode(png(2, 1, 16, 2, b"IDAT" + zlib.compress(row)))
    np.testing.assert_array_equal(decoded, [[[0, 0x80, 0xFF], [0x12, 0, 0xFF]]])


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_32_bits_are_refused_and_not_guessed(mode: str) -> None:
    with pytest.raises(ImageDecodeError, match=r"32-bit.*save it"):
        decode(encode(Image.new(mode, (4, 3)), "TIFF"))


def test_transparent_pixels_are_white_and_half_transparent_ones_half_white() -> None:
    layers = Image.fromarray(np.array([[[0, 0, 0, 0], [0, 0, 0, 255], [255, 0, 0, 51]]], np.uint8))
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})):
        decoded = decode(encode(layers, kind, **options))
        np.testing.assert_array_equal(decoded, [[[255] * 3, [0] * 3, [255, 204, 204]]])


def test_transparency_in_palettes_and_of_single_colours_is_white() -> None:
    gray = Image.fromarray(np.array([[10, 200]], np.uint8))
    assert decode(encode(gray, "PNG", transparency=10)).tolist() == [[[255] * 3, [200] * 3]]
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 10, 10, 200, 200, 200])
    palette.putpixel((1, 0), 1)
    for transparency in (0, b"\0\xff"):
        decoded = decode(encode(palette, "PNG", transparency=transparency))
        assert decoded.tolist() == [[[255] * 3, [200] * 3]]
    assert decode(encode(palette, "GIF", transparency=0)).tolist() == [[[255] * 3, [200] * 3]]
    gray_alpha = Image.fromarray(np.array([[[10, 0], [200, 255]]], np.uint8), "LA")
    assert decode(encode(gray_alpha, "PNG")).tolist() == [[[255] * 3, [200] * 3]]


def test_cmyk_is_not_inverted() -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert decode(encode(red, "JPEG", quality=100))[8, 8].tolist() == pytest.approx(
        [255, 0, 0], abs=3
    )


@pytest.mark.parametrize("kind", ["PPM", "ICO", "TGA", "PCX", "ICNS", "JPEG2000", "PDF", "EPS"])
def test_formats_that_are_not_on_the_list_are_refused(kind: str) -> None:
    encoded = encode(PICTURE.resize((32, 32)), kind)
    with pytest.raises(ImageDecodeError, match="not a readable JPEG"):
        decode(encoded)


@pytest.mark.parametrize(
    ("encoded", "sentence"),
    [
        (b"", "file is empty"),
        (b"\0" * 100, "not a readable JPEG, PNG"),
        (b"hello", "not a readable JPEG, PNG"),
        (b"<!doctype html><title>Log in</title>", "web page"),
        (b'\n <svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"%PDF-1.7\n", "is a PDF document, not a readable JPEG, PNG, WebP, AVIF"),
        (b"\0\0\0\x18ftypheic" + bytes(100), "is a HEIC file"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(100), "is a HEIC file"),
        (b"\xff\x0a" + bytes(100), "is a JPEG XL file"),
        (b"\x1f\x8b\x08" + bytes(100), "is a compressed file"),
        (b"8BPS\0\1" + bytes(100), "is a Photoshop file"),
    ],
)
def test_what_is_no_picture_is_said_to_be_none(encoded: bytes, sentence: str) -> None:
    with pytest.raises(ImageDecodeError, match=sentence):
        decode(encoded)


def test_pixel_limit_is_inclusive_and_read_from_the_header() -> None:
    encoded = encode(PICTURE, "PNG")
    assert decode_image(encoded, max_pixels=24 * 31).shape == (24, 31, 3)
    with pytest.raises(ImageDecodeError, match=r"31 x 24 pixels.*images.max_pixels"):
        decode_image(encoded, max_pixels=24 * 31 - 1)


BOMBS = {
    "png 60000 x 60000": png(60_000, 60_000, 8, 2, b"IDAT" + zlib.compress(b"\0" * 1000)),
    "png 10000 x 10000": png(10_000, 10_000, 8, 2, b"IDAT" + zlib.compress(b"\0" * 1000)),
    "png of all the pixels": png(2**31 - 1, 2**31 - 1, 16, 6, b"IDAT"),
    "gif": b"GIF89a" + struct.pack("<HH", 65535, 65535) + ENCODED["gif"][10:],
    "bmp": ENCODED["bmp"][:18] + struct.pack("<II", 60_000, 60_000) + ENCODED["bmp"][26:],
    "webp": ENCODED["webp lossless"][:21] + b"\xff\xff\xff\x0f" + ENCODED["webp lossless"][25:],
    "jpeg": ENCODED["jpeg"].replace(struct.pack(">HH", 24, 31), b"\xff\xdc\xff\xdc"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_they_are_unpacked(name: str) -> None:
    with pytest.raises(ImageDecodeError, match=r"pixels.*make it smaller"):
        decode_image(BOMBS[name], max_pixels=64_000_000)


@pytest.mark.parametrize("name", ENCODED)
def test_files_cut_anywhere_are_decode_errors_or_still_whole(name: str) -> None:
    encoded = ENCODED[name]
    for end in {*range(min(len(encoded), 300)), *range(0, len(encoded), 7)}:
        try:
            assert decode(encoded[:end]).shape == (24, 31, 3)
        except ImageDecodeError:
            continue
        # Only what stands behind the last pixel can be missing from a whole picture.
        assert end > len(encoded) * 0.4


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "avif", "bmp", "gif", "tiff"])
def test_files_cut_in_the_middle_are_never_filled_up_with_gray(name: str) -> None:
    encoded = ENCODED[name]
    with pytest.raises(ImageDecodeError, match=r"again"):
        decode(encoded[: len(encoded) // 2])


@pytest.mark.parametrize("name", ENCODED)
def test_damaged_bytes_never_raise_anything_else(name: str) -> None:
    dice = random.Random(name)
    for _ in range(150):
        damaged = bytearray(ENCODED[name])
        for _ in range(dice.choice([1, 2, 8])):
            reach = min(len(damaged), dice.choice([64, 400, 10_000]))
            damaged[dice.randrange(reach)] = dice.choice([0, 1, 127, 255, dice.randrange(256)])
        with suppress(ImageDecodeError):
            decode(bytes(damaged))


def test_threads_do_not_disturb_each_other() -> None:
    start = threading.Barrier(8)

    def work(turn: int) -> bool:
        start.wait()
        name = LOSSLESS[turn % len(LOSSLESS)]
        return all(np.array_equal(decode(ENCODED[name]), COLOURS) for _ in range(20))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


# Pictures without their end marker ----------------------------------------------------------------

NOISY = Image.fromarray(np.random.default_rng(1).integers(0, 256, (45, 61, 3), dtype=np.uint8))
SMOOTH = Image.linear_gradient("L").resize((61, 45)).convert("RGB")
HALF_WHITE = Image.new("L", (60, 100), 255)
HALF_WHITE.paste(0, (0, 50, 60, 100))
JPEGS = {
    "baseline": encode(NOISY, "JPEG"),
    "smooth": encode(SMOOTH, "JPEG"),
    "tables of its own": encode(SMOOTH, "JPEG", optimize=True),
    "full chroma": encode(SMOOTH, "JPEG", quality=95, subsampling=0),
    "progressive": encode(SMOOTH, "JPEG", progressive=True),
    "restarts": encode(SMOOTH, "JPEG", restart_marker_blocks=2),
    "gray": encode(SMOOTH.convert("L"), "JPEG"),
    "cmyk": encode(SMOOTH.convert("CMYK"), "JPEG"),
    "white": encode(Image.new("RGB", (40, 40), "white"), "JPEG", optimize=True),
    "black and white": encode(HALF_WHITE, "JPEG", optimize=True),
}


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize(
    "instead", [b"", b"\xff", b"\0", b"\0" * 5000, b"\xff\xff", b"\r\n--boundary\r\n"]
)
def test_jpeg_without_its_end_marker_is_read_whole(name: str, instead: bytes) -> None:
    whole = JPEGS[name]
    assert whole.endswith(b"\xff\xd9")
    np.testing.assert_array_equal(decode(whole[:-2] + instead), decode(whole))


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("filler", [b"", b"\0" * 3000])
def test_jpeg_cut_anywhere_is_never_filled_up(name: str, filler: bytes) -> None:
    """Also within the last block, at a block's or a row's edge, at a restart, between two scans,
    and where the file was filled up with zeros.
    """
    whole = JPEGS[name]
    expected = decode(whole).astype(int)
    read = []
    for end in range(whole.index(b"\xff\xda"), len(whole) - 2):
        try:
            found = decode(whole[:end] + filler)
        except ImageDecodeError:
            continue
        read.append(end)
        assert np.abs(found - expected).max() <= 2
    # At most the padding of the last byte can be missing from a whole picture.
    assert all(end >= len(whole) - 4 for end in read)


def test_jpeg_with_a_page_in_place_of_its_end_is_refused() -> None:
    whole = JPEGS["baseline"]
    with pytest.raises(ImageDecodeError, match="cut off"):
        decode(whole[: len(whole) // 2] + b"<html><body>504 Gateway Time-out</body></html>")


def test_picture_of_two_lenses_needs_the_end_of_its_first_only() -> None:
    whole = ENCODED["jpeg of two lenses"]
    np.testing.assert_array_equal(decode(whole[:-2]), decode(whole))


# AVIF ---------------------------------------------------------------------------------------------


def test_avif_shows_its_first_frame() -> None:
    np.testing.assert_array_equal(decode(ENCODED["avif animated"]).shape, (24, 31, 3))
    red = Image.new("RGB", (32, 32), "red")
    moving = encode(red, "AVIF", save_all=True, append_images=[Image.new("RGB", (32, 32), "blue")])
    assert decode(moving)[16, 16].tolist() == pytest.approx([254, 0, 0], abs=4)


def test_transparent_avif_is_white() -> None:
    layers = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    layers.paste((200, 0, 0, 255), (0, 0, 16, 32))
    decoded = decode(encode(layers, "AVIF", quality=100, subsampling="4:4:4"))
    assert decoded[16, 24].tolist() == [255] * 3
    assert decoded[16, 8].tolist() == pytest.approx([200, 0, 0], abs=4)


def test_orientation_of_avif_is_its_own_and_applied_once() -> None:
    """Pillow writes EXIF's orientation as AVIF's rotation; browsers know that alone."""
    left_red = Image.new("RGB", (40, 20), "white")
    left_red.paste("red", (0, 0, 20, 20))
    tags = Image.Exif()
    tags[0x0112] = 6
    decoded = decode(encode(left_red, "AVIF", exif=tags))
    assert decoded.shape == (40, 20, 3)
    assert decoded[5, 10].tolist() == pytest.approx([254, 0, 0], abs=6)
    assert decoded[35, 10].tolist() == pytest.approx([255] * 3, abs=6)


def test_pillow_without_avif_is_said_to_be_so() -> None:
    """Distributions build it so."""
    code = (
        "import sys; sys.modules['PIL._avif'] = None\n"
        "from prelabel.errors import ImageDecodeError\n"
        "from prelabel.images.decode import decode_image\n"
        "try: decode_image(sys.stdin.buffer.read(), max_pixels=10_000)\n"
        "except ImageDecodeError as error: print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        input=ENCODED["avif"],
        capture_output=True,
        check=True,
        cwd=PROJECT_ROOT,
    )
    assert b"is an AVIF file, which the service's Pillow was built without" in run.stdout
