"""Sizes of the frames in an AVIF file, which the file's own header need not say.

The decoder behind Pillow unpacks a frame in the size that the AV1 data gives it, up to 268 million
pixels, and then scales it to the size in the file's header. Pillow shows the latter alone. So the
AV1 sequence headers are read here (ISO/IEC 14496-12 and 23008-12 for the boxes; AV1, section 5.5).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from prelabel.errors import ImageDecodeError

_BRANDS: Final = (b"avif", b"avis")
# HEIC's, too: such a file is an AVIF if it has one of the others beside it.
_GENERAL_BRANDS: Final = (b"mif1", b"msf1")

_View = memoryview
# Files of cameras and programs have some ten boxes, items and parts of frames.
_MAX_STEPS: Final = 20_000
_SEQUENCE_HEADER: Final = 1
_NEVER_TWICE: Final = (b"iloc", b"idat", b"stco", b"co64", b"stsz")
_DAMAGED: Final = "The picture is damaged or cut off; upload it again."
_TO_SAMPLES: Final = (b"trak", b"mdia", b"minf", b"stbl")


def is_avif(encoded: bytes) -> bool:
    """Return whether the decoder may take the bytes for an AVIF file."""
    if encoded[4:8] != b"ftyp":
        return False
    brand = encoded[8:12]
    others = brand in _GENERAL_BRANDS and any(other in encoded for other in _BRANDS)
    return brand in _BRANDS or others


def check_frames(encoded: bytes, max_pixels: int) -> None:
    """Raise ImageDecodeError if a frame has more than `max_pixels`, or none can be found."""
    steps = _Steps()
    largest = 0
    try:
        for data in _coded(memoryview(encoded), steps):
            for width, height in _sequences(data, steps):
                largest = max(largest, width * height)
    except (struct.error, IndexError, OverflowError):
        largest = 0
    if not largest:
        raise ImageDecodeError(_DAMAGED)
    if largest > max_pixels:
        raise ImageDecodeError(
            f"The picture is stored in frames of more than the {max_pixels} pixels that are "
            "allowed; make it smaller or raise images.max_pixels."
        )


class _Steps:
    """Bounds the work on one file."""

    def __init__(self) -> None:
        self._left = _MAX_STEPS

    def take(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise ImageDecodeError(
                "The picture is an AVIF of far more parts than cameras and programs write; "
                "save it again."
            )


def _boxes(view: _View, steps: _Steps) -> Iterator[tuple[bytes, _View]]:
    place = 0
    while place + 8 <= len(view):
        steps.take()
        size, kind = struct.unpack_from(">I4s", view, place)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", view, place + 8)
            head = 16
        end = place + size if size else len(view)
        if size and size < head:
            return
        yield kind, view[place + head : end]
        place = end


def _unique(view: _View, steps: _Steps) -> dict[bytes, _View]:
    """The boxes by kind. Raises ImageDecodeError where the decoder could take another."""
    found: dict[bytes, _View] = {}
    for kind, box in _boxes(view, steps):
        if kind in found and kind in _NEVER_TWICE:
            raise ImageDecodeError(_DAMAGED)
        found[kind] = box
    return found


def _coded(file: _View, steps: _Steps) -> Iterator[_View]:
    """The data of every item, and of the first frame of every track."""
    for kind, box in _boxes(file, steps):
        if kind == b"meta":
            inner = _unique(box[4:], steps)
            if b"iloc" in inner:
                yield from _items(inner[b"iloc"], file, inner.get(b"idat", file[:0]), steps)
        elif kind == b"moov":
            yield from _first_samples(box, file, steps)


def _items(iloc: _View, file: _View, idat: _View, steps: _Steps) -> Iterator[_View]:
    version, sizes, more = iloc[0], iloc[4], iloc[5]
    wide = version == 2
    index_size = more & 15 if version else 0
    reader, joined = _Reader(iloc, 6), 0
    for _ in range(reader.number(4 if wide else 2)):
        reader.number(4 if wide else 2)
        within = idat if version and reader.number(2) & 15 == 1 else file
        reader.number(2)
        base = reader.number(more >> 4)
        extents = []
        for _ in range(reader.number(2)):
            steps.take()
            reader.number(index_size)
            start = base + reader.number(sizes >> 4)
            length = reader.number(sizes & 15)
            extents.append(within[start : start + length if length else len(within)])
        steps.take()
        if len(extents) == 1:
            yield extents[0]
        elif extents:
            joined += sum(map(len, extents))
            if joined > len(file):
                raise ImageDecodeError(_DAMAGED)
            yield memoryview(b"".join(extents))


def _first_samples(moov: _View, file: _View, steps: _Steps) -> Iterator[_View]:
    parts = [moov]
    for kind in _TO_SAMPLES:
        parts = [box for part in parts for name, box in _boxes(part, steps) if name == kind]
    for table in parts:
        boxes = _unique(table, steps)
        wide = b"co64" in boxes
        offsets, lengths = boxes.get(b"co64", boxes.get(b"stco")), boxes.get(b"stsz")
        if offsets is None or lengths is None:
            continue
        (start,) = struct.unpack_from(">Q" if wide else ">I", offsets, 8)
        same, _, *own = struct.unpack_from(">II" if len(lengths) < 16 else ">III", lengths, 4)
        yield file[start : start + (same or own[0])]


def _sequences(data: _View, steps: _Steps) -> Iterator[tuple[int, int]]:
    """Width and height of every sequence header among the OBUs."""
    place = 0
    while place < len(data):
        steps.take()
        head = data[place]
        place += 2 if head & 4 else 1
        size = len(data) - place
        if head & 2:
            size, place = _leb128(data, place)
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            yield _frame_size(_Bits(data[place : place + min(size, 256)]))
        place += size


def _leb128(data: _View, place: int) -> tuple[int, int]:
    """The number, and what follows it."""
    value = 0
    for shift in range(0, 56, 7):
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            break
    return value, place


class _Reader:
    """Big-endian numbers, one after the other."""

    def __init__(self, view: _View, place: int) -> None:
        self._view, self._place = view, place

    def number(self, size: int) -> int:
        end = self._place + size
        if end > len(self._view):
            raise IndexError("the box ends")
        value = int.from_bytes(self._view[self._place : end])
        self._place = end
        return value


class _Bits:
    def __init__(self, data: _View) -> None:
        self._value, self._left = int.from_bytes(data), 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise IndexError("the header ends")
        return self._value >> self._left & (1 << count) - 1


def _frame_size(bits: _Bits) -> tuple[int, int]:
    """max_frame_width and max_frame_height of a sequence header."""
    bits.take(4)  # seq_profile, still_picture
    if bits.take(1):  # reduced_still_picture_header
        bits.take(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(width_bits) + 1, bits.take(height_bits) + 1


def _skip_operating_points(bits: _Bits) -> None:
    delay_bits = 0
    if bits.take(1):  # timing_info_present_flag
        bits.take(64)
        if bits.take(1):  # equal_picture_interval
            _skip_uvlc(bits)
        if bits.take(1):  # decoder_model_info_present_flag
            delay_bits = bits.take(5) + 1
            bits.take(42)
    has_display_delay = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:  # seq_level_idx
            bits.take(1)
        if delay_bits and bits.take(1):
            bits.take(2 * delay_bits + 1)
        if has_display_delay and bits.take(1):
            bits.take(4)


def _skip_uvlc(bits: _Bits) -> None:
    zeros = 0
    while not bits.take(1):
        zeros += 1
    if zeros < 32:
        bits.take(zeros)
