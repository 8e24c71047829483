"""Hostile picture files, built when they are needed, and a process that decodes them.

Run as a module, it decodes each file under a limit of memory and writes one line of JSON each: a
decoder without its defences would harm that process alone.
"""

from __future__ import annotations

import gzip
import json
import resource
import struct
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

from PIL import Image

from prelabel.errors import ImageDecodeError
from prelabel.images.decode import decode_image, decode_reduced

MAX_PIXELS = 4_000_000
MEMORY_LIMIT = 3 << 30

Build = Callable[[], bytes]

SOI, EOI = b"\xff\xd8", b"\xff\xd9"


def encode(kind: str, size: tuple[int, int] = (64, 48), mode: str = "RGB", **options: Any) -> bytes:
    file = BytesIO()
    picture = Image.linear_gradient("L").resize(size)
    if mode == "RGB":
        picture = Image.merge("RGB", (picture, picture.rotate(180), picture.rotate(90)))
    picture.convert(mode).save(file, kind, **options)
    return file.getvalue()


def zeros(mebibytes: int) -> bytes:
    """So many of them, deflated: a thousandth of that."""
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(mebibytes)) + packer.flush()


# PNG --------------------------------------------------------------------------------------------


def chunk(kind: bytes, content: bytes, *, right: bool = True) -> bytes:
    check = zlib.crc32(kind + content) ^ (not right)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png(
    size: tuple[int, int], *chunks: bytes, depth: int = 8, colour: int = 0, interlaced: int = 0
) -> bytes:
    """A whole one where no IDAT is given."""
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, interlaced)
    if not any(each[4:8] == b"IDAT" for each in chunks):
        bits = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1) * depth
        row = bytes(1 + (size[0] * bits + 7) // 8)
        chunks = (*chunks, chunk(b"IDAT", zlib.compress(row * size[1])))
    return b"\x89PNG\r\n\x1a\n" + b"".join((chunk(b"IHDR", header), *chunks, chunk(b"IEND", b"")))


IDAT = chunk(b"IDAT", zlib.compress(bytes(1000)))


# TIFF -------------------------------------------------------------------------------------------

Entry = tuple[int, int, int, int]  # tag, type, count, value or offset


def tiff(*entries: Entry, behind: bytes = b"", following: int = 0, big: bool = False) -> bytes:
    """The first directory stands at the start, and its entries may point to what is behind it."""
    head, entry = ("<4sHHQQ", "<HHQQ") if big else ("<4sIH", "<HHII")
    fields = (b"II+\0", 8, 0, 16, len(entries)) if big else (b"II*\0", 8, len(entries))
    directory = b"".join(struct.pack(entry, *each) for each in entries)
    return struct.pack(head, *fields) + directory + struct.pack("<I", following) + behind


def tiff_of(
    *more: Entry, size: tuple[int, int] = (16, 16), packing: int = 8, content: bytes = b""
) -> bytes:
    """A gray TIFF; offsets of `more` count from what is behind the directory, after the content."""
    plain = [
        *((256, 4, 1, size[0]), (257, 4, 1, size[1]), (258, 3, 1, 8), (259, 3, 1, packing)),
        *((262, 3, 1, 1), (277, 3, 1, 1)),
    ]
    start = 10 + 12 * (len(plain) + len(more)) + 4
    placed = [
        (tag, kind, n, start + value if tag in (273, 324) or kind > 15 else value)
        for tag, kind, n, value in more
    ]
    return tiff(*sorted([*plain, *placed]), behind=content)


def tile_bomb(kind: int, side: int = 16_384) -> bytes:
    """16 x 16 pixels in one tile of a quarter of a gigabyte. kind: the type of the tile's sides;
    of 64 bits, they stand apart, and Pillow itself does not read all such types.
    """
    sides = struct.pack("<QQ", side, side) if kind > 15 else b""
    content = sides + zeros(side * side >> 20)
    values = (0, 8) if kind > 15 else (side, side)
    return tiff_of(
        (322, kind, 1, values[0]),
        (323, kind, 1, values[1]),
        (324, 4, 1, len(sides)),
        (325, 4, 1, len(content) - len(sides)),
        content=content,
    )


def strip_bomb() -> bytes:
    """16 x 16 pixels in one strip that unpacks to a quarter of a gigabyte."""
    content = zeros(256)
    return tiff_of((273, 4, 1, 0), (278, 4, 1, 2**31), (279, 4, 1, len(content)), content=content)


def many_tags(count: int = 20_000) -> bytes:
    """Each says that its value is the whole file."""
    return tiff(*((1000 + tag, 1, 12 * count, 8) for tag in range(count)))


# JPEG -------------------------------------------------------------------------------------------


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def jpeg(*segments: bytes, **options: Any) -> bytes:
    """A whole one, with more segments at its start."""
    return SOI + b"".join(segments) + encode("JPEG", **options)[2:]


def jpeg_of_size(height: int, width: int) -> bytes:
    plain = encode("JPEG")
    return plain.replace(struct.pack(">HH", 48, 64), struct.pack(">HH", height, width), 1)


def hidden_scans(scans: int) -> bytes:
    """Scans behind a marker that a decoder passes over, within a scan of restart intervals.

    A parser that reads a length after the marker would skip all of them.
    """
    segments, place, plain = b"", 2, jpeg()
    while plain[place + 1] != 0xDA:
        length = 2 + int.from_bytes(plain[place + 2 : place + 4])
        segments += plain[place : place + length].replace(b"\xff\xc0", b"\xff\xc2", 1)
        place += length
    restarts, no_restarts = b"\xff\xdd\0\x04\0\x01", b"\xff\xdd\0\x04\0\0"
    first = b"\xff\xda\0\x08\x01\x01\0\0\0\0" + b"\0\0"
    last = b"\xff\xda\0\x08\x01\x01\0\x01\x3f\0" * scans
    hidden = b"\xff\x02\xff\xff" + (no_restarts + last).ljust(65533, b"\0")
    return b"\xff\xd8" + segments + restarts + first + hidden + EOI


def scan_bomb(scans: int) -> bytes:
    """The last pass over the picture, again and again: ten bytes each."""
    plain = encode("JPEG", (2000, 2000), "L", progressive=True)
    last = plain[plain.rindex(b"\xff\xda") : -2]
    return plain[:-2] + last * scans + EOI


def adobe(transform: int, mode: str) -> bytes:
    plain = encode("JPEG", mode=mode)
    at = plain.find(b"Adobe")
    if at < 0:
        return jpeg(segment(0xEE, b"Adobe\0d\0\0\0\0" + bytes([transform])), mode=mode)
    return plain[: at + 11] + bytes([transform]) + plain[at + 12 :]


def exif(*entries: Entry, behind: bytes = b"", following: int = 0) -> bytes:
    return b"Exif\0\0" + tiff(*entries, behind=behind, following=following)


EXIFS = {
    "a directory that follows itself": exif((0x112, 3, 1, 1), following=8),
    "a directory inside itself": exif((0x8769, 4, 1, 8), (0x8825, 4, 1, 8), (0xA005, 4, 1, 8)),
    "giant counts": exif((0x112, 3, 2**32 - 1, 8), (0x10E, 2, 2**32 - 1, 8)),
    "a thousand overlapping values": exif(*((2000 + tag, 1, 12_000, 8) for tag in range(1000))),
    "more entries than there are": b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(100),
    "divisions by zero": exif((0x11A, 5, 1, 26), (0x11B, 5, 1, 26), behind=bytes(8)),
    "a start behind its end": b"Exif\0\0MM\0*\xff\xff\xff\xff",
}


# GIF, WebP, BMP ---------------------------------------------------------------------------------


def gif(screen: tuple[int, int], *blocks: bytes) -> bytes:
    return (
        b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + bytes(6) + b"".join(blocks) + b";"
    )


def gif_frame(size: tuple[int, int], at: tuple[int, int] = (0, 0)) -> bytes:
    return b"," + struct.pack("<HHHHB", *at, *size, 0) + b"\x02\x02\x4c\x01\x00"


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
        for kind, content in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_canvas(side: int) -> bytes:
    sides = struct.pack("<I", side - 1)[:3] * 2
    inner = encode("WEBP", lossless=True)[12:]
    return webp((b"VP8X", bytes(4) + sides), (inner[:4], inner[8:]))


def bmp(width: int, height: int, bits: int, packing: int, content: bytes) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, packing, 0, 0, 0, 0, 0)
    palette = bytes(4 << bits) if bits <= 8 else b""
    start = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", start, 0, 0, start) + head + palette + content


def frames(kind: str, count: int) -> Build:
    def build() -> bytes:
        file = BytesIO()
        first, *others = (Image.new("L", (16, 16), n % 256) for n in range(count))
        first.save(file, kind, save_all=True, append_images=others)
        return file.getvalue()

    return build


# AVIF -------------------------------------------------------------------------------------------


def avif(side: int, claimed: int = 0, **options: Any) -> bytes:
    """One colour; `claimed`: what its header says instead of its side."""
    file = BytesIO()
    Image.new("RGB", (side, side), (10, 200, 30)).save(file, "AVIF", speed=10, **options)
    whole = file.getvalue()
    if not claimed:
        return whole
    at = whole.index(b"ispe") + 8
    return whole[:at] + struct.pack(">II", claimed, claimed) + whole[at + 8 :]


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


FTYP = box(b"ftyp", b"avif\0\0\0\0avifmif1miaf")


def avif_of_items(items: int, extents: int) -> bytes:
    """Each is the whole file, in so many parts."""
    extent = struct.pack(">II", 0, 1000)
    item = struct.pack(">HHH", 1, 0, extents) + extent * extents
    iloc = b"\0\0\0\0\x44\0" + struct.pack(">H", items) + item * items
    return FTYP + box(b"meta", bytes(4) + box(b"iloc", iloc))


def avif_of_obus() -> bytes:
    """Its data is nothing but beginnings of frames."""

    def head(start: int) -> bytes:
        iloc = b"\0\0\0\0\x44\0" + struct.pack(">HHHHII", 1, 1, 0, 1, start, 0)
        return FTYP + box(b"meta", bytes(4) + box(b"iloc", iloc))

    return head(len(head(0))) + b"\x12\0" * 500_000


# All of them ------------------------------------------------------------------------------------

# Refused with a sentence that has these words in it ...
BOMBS: dict[str, tuple[Build, str]] = {
    "png of 60000 x 60000": (lambda: png((60_000, 60_000), IDAT), "pixels"),
    "png of 2147483647 x 2147483647": (lambda: png((2**31 - 1, 2**31 - 1), IDAT), "pixels"),
    "png of 1 x 2147483647": (lambda: png((1, 2**31 - 1), IDAT), "pixels"),
    "png, interlaced": (lambda: png((50_000, 50_000), IDAT, interlaced=1), "pixels"),
    "png just over the limit": (lambda: png((2000, 2001), IDAT), "2000 x 2001 pixels"),
    "gif screen": (lambda: gif((65_535, 65_535), gif_frame((1, 1))), "pixels"),
    "gif frame outside its screen": (lambda: gif((1, 1), gif_frame((65_535, 65_535))), "pixels"),
    "gif frame far off": (lambda: gif((1, 1), gif_frame((1, 1), (65_534, 65_534))), "pixels"),
    "bmp of 60000 x 60000": (lambda: bmp(60_000, 60_000, 24, 0, bytes(100)), "pixels"),
    "bmp upside down": (lambda: bmp(60_000, -60_000, 24, 0, bytes(100)), "pixels"),
    "bmp of 1 x 2147483647": (lambda: bmp(1, 2**31 - 1, 24, 0, b""), "pixels"),
    "webp canvas": (lambda: webp_canvas(16_383), "pixels"),
    "webp lossless": (lambda: webp((b"VP8L", b"\x2f\xff\xff\xff\x0f" + bytes(40))), "pixels"),
    "webp lossy": (
        lambda: webp((b"VP8 ", b"\x10\x00\x00\x9d\x01\x2a\xff\x3f\xff\x3f" + bytes(40))),
        "pixels",
    ),
    "avif of 3000 x 3000": (lambda: avif(3000), "frames of more than"),
    "avif of 3000 x 3000 that says 64 x 64": (lambda: avif(3000, 64), "frames of more than"),
    "avif of 64 x 64 that says 60000 x 60000": (lambda: avif(64, 60_000), ""),
    "avif of 64 x 64 that says 3000 x 3000": (lambda: avif(64, 3000), "pixels"),
    "avif, animated, of 3000 x 3000": (
        lambda: avif(3000, save_all=True, append_images=[Image.new("RGB", (3000, 3000))]),
        "frames of more than",
    ),
    "avif of 60000 items": (lambda: avif_of_items(60_000, 1), ""),
    "avif of items of 60000 parts": (lambda: avif_of_items(5, 60_000), ""),
    "avif of half a million beginnings": (avif_of_obus, "far more parts"),
    "tiff of 65535 x 65535": (
        lambda: tiff_of((273, 4, 1, 0), size=(65_535, 65_535), content=bytes(100)),
        "pixels",
    ),
    "big tiff of 2147483647 x 2147483647": (
        lambda: tiff(
            *((tag, 4, 1, 2**31 - 1) for tag in (256, 257)),
            *((258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8)),
            big=True,
        ),
        "",
    ),
    "tiff tile, sides of 32 bits": (lambda: tile_bomb(4), "tiles"),
    "tiff tile, sides of 64 bits": (lambda: tile_bomb(16), "tiles"),
    "tiff tile, sides of signed 64 bits": (lambda: tile_bomb(17), "tiles"),
    "jpeg of 65500 x 65500": (lambda: jpeg_of_size(65_500, 65_500), "pixels"),
    "jpeg of 1000 hidden scans": (lambda: hidden_scans(1000), "far more parts"),
    "jpeg of 1000 scans": (lambda: scan_bomb(1000), "far more parts"),
    "jpeg of 100000 comments": (lambda: jpeg(segment(0xFE, b"") * 100_000), "far more parts"),
    "png text that unpacks": (
        lambda: png((8, 8), chunk(b"zTXt", b"a\0\0" + zeros(256))),
        "damaged",
    ),
    "png international text that unpacks": (
        lambda: png((8, 8), chunk(b"iTXt", b"a\0\1\0\0\0" + zeros(256))),
        "damaged",
    ),
    "png with a profile that unpacks": (
        lambda: png((8, 8), chunk(b"iCCP", b"a\0\0" + zeros(256))),
        "damaged",
    ),
    "png of many texts": (
        lambda: png((8, 8), chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000))) * 100),
        "damaged",
    ),
}

# ... or with any sentence ...
BAD: dict[str, Build] = {
    "tiff strip that unpacks": strip_bomb,
    "tiff of overlapping values": many_tags,
    "tiff whose directory follows itself": lambda: tiff((256, 3, 1, 1), following=8),
    "tiff without a directory": lambda: b"II*\0\xff\xff\xff\xff",
    "tiff with its directory in its header": lambda: b"II*\0\0\0\0\0" + bytes(20),
    "tiff with lists for sides": lambda: tiff((256, 3, 2, 1), (257, 3, 2, 1)),
    "tiff with texts for sides": lambda: tiff((256, 2, 4, 1), (257, 2, 4, 1)),
    "tiff with four million samples": lambda: tiff_of((277, 4, 1, 4_000_000)),
    "tiff with sample sizes of half a million": lambda: tiff_of(
        (338, 3, 500_000, 8), content=b"\1\0" * 500_000
    ),
    "big tiff with more entries than fit": lambda: b"II+\0\x08\0\0\0" + b"\x10" + b"\xff" * 40,
    "png without pixels": lambda: png((8, 8), chunk(b"IDAT", b"")),
    "png with a wrong checksum": lambda: png((8, 8), chunk(b"IDAT", b"x", right=False)),
    "png with half its pixels": lambda: png((64, 64), chunk(b"IDAT", zlib.compress(bytes(2000)))),
    "png of 0 x 8": lambda: png((0, 8)),
    "png of 8 x 0": lambda: png((8, 0), IDAT),
    "png of depth 3": lambda: png((8, 8), IDAT, depth=3),
    "png of colour type 1": lambda: png((8, 8), IDAT, colour=1),
    "png with a palette of 16 bits": lambda: png((8, 8), IDAT, depth=16, colour=3),
    "png with a chunk of 4 GB": lambda: png((8, 8))[:33] + b"\xff\xff\xff\xffIDAT" + bytes(50),
    "png with an empty header": lambda: b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"") + IDAT,
    "jpeg of 0 x 64": lambda: jpeg_of_size(0, 64),
    "jpeg of 48 x 0": lambda: jpeg_of_size(48, 0),
    "jpeg without tables": lambda: SOI + encode("JPEG")[encode("JPEG").index(b"\xff\xc0") :],
    "jpeg of headers alone": lambda: encode("JPEG")[: encode("JPEG").index(b"\xff\xda")],
    "jpeg that ends at once": lambda: SOI + EOI,
    "jpeg of starts": lambda: SOI * 100_000,
    "jpeg of padding": lambda: SOI + b"\xff" * 1_000_000,
    "jpeg with a segment of length 0": lambda: SOI + b"\xff\xe1\0\0" * 1000,
    "jpeg of five colours": lambda: jpeg().replace(b"\x03\x01\x22", b"\x05\x01\x22", 1),
    "gif of 0 x 0": lambda: gif((0, 0), gif_frame((0, 0))),
    "gif without a frame": lambda: gif((8, 8)),
    "gif of comments": lambda: gif((8, 8), (b"!\xfe" + (b"\xff" + b"a" * 255) * 4000 + b"\0")),
    "gif of extensions": lambda: gif((8, 8), b"!\xf9\x01a\0" * 20_000),
    "gif with a code size of 200": lambda: gif(
        (8, 8), gif_frame((8, 8)).replace(b"\2\2L", b"\xc8\2L")
    ),
    "webp of nothing": lambda: webp(),
    "webp whose length is a lie": lambda: b"RIFF\xff\xff\xff\xffWEBPVP8L\xff\xff\xff\xff/",
    "webp with a canvas of its own": lambda: webp_canvas(1000),
    "bmp of 0 x 8": lambda: bmp(0, 8, 24, 0, b""),
    "bmp with a palette of 32 bits": lambda: bmp(8, 8, 31, 0, bytes(400)),
    "bmp of an unknown packing": lambda: bmp(8, 8, 8, 77, bytes(400)),
    "bmp whose header is a lie": lambda: b"BM" + b"\xff" * 60,
    "nothing": lambda: b"",
    "one byte": lambda: b"\xff",
    "zeros": lambda: bytes(1_000_000),
    "html": lambda: b"<!doctype html><title>Log in</title>" + b"<p>" * 10_000,
    "json": lambda: b'{"detail": "Authentication credentials were not provided."}',
    "svg": lambda: (
        b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    ),
    "svg of a million laughs": lambda: b'<!DOCTYPE svg [<!ENTITY a "&b;&b;">]><svg>&a;</svg>',
    "svg, zipped": lambda: gzip.compress(b"<svg/>"),
    "png, zipped": lambda: gzip.compress(png((8, 8))),
    "pdf": lambda: b"%PDF-1.7\n" + encode("JPEG"),
    "postscript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n(/etc/passwd) run",
    "zip": lambda: b"PK\3\4" + bytes(100),
    "program": lambda: b"\x7fELF" + bytes(100),
    "heic": lambda: b"\0\0\0\x18ftypheic" + bytes(100),
    "avif of nothing": lambda: b"\0\0\0\x18ftypavif" + bytes(100),
    "avif without its data": lambda: (whole := avif(64))[: whole.index(b"mdat") + 4],
    "avif without items": lambda: FTYP + box(b"meta", bytes(4)),
    "avif with two lists of items": lambda: FTYP + box(b"meta", bytes(4) + box(b"iloc", b"") * 2),
    "avif with a box inside itself": lambda: FTYP + b"\0\0\0\x01meta" + b"\xff" * 8 + bytes(50),
    "avif with boxes of nothing": lambda: FTYP + b"\0\0\0\x08free" * 100_000,
    "jpeg 2000": lambda: b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100),
    "photoshop": lambda: b"8BPS\0\1" + bytes(100),
    "icon": lambda: b"\0\0\1\0\1\0" + bytes(100),
    "script that begins like a gif": lambda: b"GIF89a=1;alert(document.cookie)//",
    "page that begins like a bmp": lambda: b"BM<script>alert(1)</script>",
}

# ... or read, at this size: harmless, as a browser shows it, and no reason to keep its remainder.
READ: dict[str, tuple[Build, tuple[int, int]]] = {
    "png of 1 x 4000000": (lambda: png((1, 4_000_000)), (1, 4_000_000)),
    "png of 4000000 x 1": (lambda: png((4_000_000, 1)), (4_000_000, 1)),
    "webp of 1 x 16383": (lambda: encode("WEBP", (1, 16_383)), (1, 16_383)),
    "jpeg of 65500 x 1": (lambda: encode("JPEG", (65_500, 1)), (65_500, 1)),
    "png whose pixels go on": (lambda: png((8, 8), chunk(b"IDAT", zeros(256))), (8, 8)),
    "jpeg with a profile of 6 MB": (
        lambda: jpeg(*(segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(65_000)) for _ in range(100))),
        (64, 48),
    ),
    "jpeg with EXIF of 6 MB": (
        lambda: jpeg(*(segment(0xE1, b"Exif\0\0" + bytes(65_000)) for _ in range(100))),
        (64, 48),
    ),
    "jpeg that says it is many": (
        lambda: jpeg(segment(0xE2, b"MPF\0" + tiff((0xB001, 4, 1, 2**31), (0xB002, 7, 2**31, 8)))),
        (64, 48),
    ),
    "jpeg that ends without an end": (lambda: jpeg()[:-2], (64, 48)),
    "jpeg with an archive behind it": (lambda: jpeg() + b"PK\3\4" + bytes(100_000), (64, 48)),
    "jpeg with scans of another behind it": (lambda: jpeg() + b"\xff\xda" * 1000, (64, 48)),
    "jpeg with a page in its comment": (
        lambda: jpeg(segment(0xFE, b"<?php system('id') ?>")),
        (64, 48),
    ),
    "png with a script behind it": (lambda: png((8, 8)) + b"<script>alert(1)</script>", (8, 8)),
    "png with more transparency than colours": (
        lambda: png((8, 8), chunk(b"PLTE", bytes(6)), chunk(b"tRNS", bytes(256)), colour=3),
        (8, 8),
    ),
    "gif of 2000 frames": (frames("GIF", 2000), (16, 16)),
    "png of 500 frames": (frames("PNG", 500), (16, 16)),
    "webp of 300 frames": (frames("WEBP", 300), (16, 16)),
    "avif of 100 frames": (frames("AVIF", 100), (16, 16)),
    "tiff of 300 pages": (frames("TIFF", 300), (16, 16)),
    "bmp, run lengths that jump": (
        lambda: bmp(2000, 2000, 8, 1, b"\0\2\xff\xff" * 20 + b"\0\1"),
        (2000, 2000),
    ),
    **{
        f"jpeg in {mode} with colour transform {transform}": (
            lambda transform=transform, mode=mode: adobe(transform, mode),  # type: ignore[misc]
            (64, 48),
        )
        for mode in ("RGB", "CMYK")
        for transform in (0, 1, 2, 255)
    },
    **{
        f"{kind} with EXIF of {name}": (
            lambda kind=kind, block=block: encode(kind, exif=block),  # type: ignore[misc]
            (64, 48),
        )
        for name, block in EXIFS.items()
        for kind in ("JPEG", "PNG", "WEBP", "AVIF")
    },
}

KINDS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "GIF", "TIFF")
CUT: dict[str, Build] = {
    f"{kind}, the first {percent} %": lambda kind=kind, percent=percent: (  # type: ignore[misc]
        (whole := encode(kind))[: len(whole) * percent // 100]
    )
    for kind in KINDS
    for percent in (3, 25, 50, 65, 80)
}
MASKED: dict[str, Build] = {
    f"{kind} that begins like {other}": lambda kind=kind, other=other: (  # type: ignore[misc]
        encode(other)[:12] + encode(kind)[12:]
    )
    for kind, other in zip(KINDS, KINDS[1:] + KINDS[:1], strict=True)
}

ALL: dict[str, Build] = {
    **{name: build for name, (build, _) in (BOMBS | READ).items()},
    **BAD,
    **CUT,
    **MASKED,
}


def outcomes() -> Iterator[dict[str, Any]]:
    """Yield each file's size or error, seconds of processor time, and growth of the peak in MiB."""
    for name, build in ALL.items():
        encoded = build()
        before, began = peak_mib(), time.process_time()
        try:
            height, width, _ = decode_image(encoded, max_pixels=MAX_PIXELS).shape
            found: dict[str, Any] = {"size": (width, height)}
        except ImageDecodeError as error:
            found = {"sentence": str(error)}
        seconds = time.process_time() - began
        grown_mib = peak_mib() - before
        try:
            reduced = decode_reduced(encoded, max_pixels=MAX_PIXELS, scale_of=_most)
            found["reduced"] = {"size": reduced.wh}
        except ImageDecodeError as error:
            found["reduced"] = {"sentence": str(error)}
        yield {"name": name, "grown_mib": grown_mib, "seconds": seconds, **found}


def _most(wh: tuple[int, int]) -> int:
    """The largest reduction that leaves a pixel."""
    return next(scale for scale in (8, 4, 2, 1) if scale <= min(wh))


def peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of Pillow, about damaged directories
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    for outcome in outcomes():
        sys.stdout.write(json.dumps(outcome) + "\n")
        sys.stdout.flush()
