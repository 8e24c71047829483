"""Sizes of the frames in an AVIF file, which can differ from the size in the file's header.

The decoder behind Pillow unpacks a frame in the size that the AV1 data declares, up to 268 million
pixels, and then scales it to the size in the file's header. Pillow reports the header's size only.
So the AV1 sequence headers are read here (ISO/IEC 14496-12 and 23008-12 for the boxes; AV1,
section 5.5, for the headers).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from prelabel.errors import ImageDecodeError

_BRANDS: Final = (b"avif", b"avis")
# HEIC files have these brands, too: such a file is an AVIF if it names one of `_BRANDS` as well.
_GENERAL_BRANDS: Final = (b"mif1", b"msf1")

_View = memoryview
# Bounds the work on one file. Files of cameras and programs have about ten boxes, items and OBUs.
_MAX_STEPS: Final = 20_000
_MAX_HEADER_BYTES: Final = 256  # of a sequence header; the fields up to the frame size are shorter
_SEQUENCE_HEADER: Final = 1  # obu_type
# A second box of these kinds would leave open which of the two the decoder reads.
_UNIQUE_KINDS: Final = (b"iloc", b"idat", b"stco", b"co64", b"stsz")
_DAMAGED: Final = "The picture is damaged or cut off; upload it again."
_SAMPLE_TABLE_PATH: Final = (b"trak", b"mdia", b"minf", b"stbl")


def is_avif(encoded: bytes) -> bool:
    """Return True if the decoder may read the bytes as an AVIF file."""
    if encoded[4:8] != b"ftyp":
        return False
    brand = encoded[8:12]
    if brand in _GENERAL_BRANDS:
        return any(specific in encoded for specific in _BRANDS)
    return brand in _BRANDS


def check_frames(encoded: bytes, max_pixels: int) -> None:
    """Raise ImageDecodeError if a frame has more than `max_pixels` pixels, or no frame is found."""
    steps = _StepBudget()
    largest = 0
    try:
        for data in _coded_data(memoryview(encoded), steps):
            for width, height in _sequence_sizes(data, steps):
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


class _StepBudget:
    """Counts boxes, items, extents and OBUs of one file, and refuses a file of too many."""

    def __init__(self) -> None:
        self._left = _MAX_STEPS

    def take(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise ImageDecodeError(
                "The picture is an AVIF of far more parts than cameras and programs write; "
                "save it again."
            )


def _boxes(view: _View, steps: _StepBudget) -> Iterator[tuple[bytes, _View]]:
    """Yield kind and content of the boxes that follow each other in a view."""
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


def _boxes_by_kind(view: _View, steps: _StepBudget) -> dict[bytes, _View]:
    """Return the boxes by kind. Raises ImageDecodeError for a second box of a unique kind."""
    boxes: dict[bytes, _View] = {}
    for kind, box in _boxes(view, steps):
        if kind in boxes and kind in _UNIQUE_KINDS:
            raise ImageDecodeError(_DAMAGED)
        boxes[kind] = box
    return boxes


def _coded_data(file: _View, steps: _StepBudget) -> Iterator[_View]:
    """Yield the data of every item, and of the first frame of every track."""
    for kind, box in _boxes(file, steps):
        if kind == b"meta":
            inner = _boxes_by_kind(box[4:], steps)
            if b"iloc" in inner:
                yield from _items(inner[b"iloc"], file, inner.get(b"idat", file[:0]), steps)
        elif kind == b"moov":
            yield from _first_samples(box, file, steps)


def _items(iloc: _View, file: _View, idat: _View, steps: _StepBudget) -> Iterator[_View]:
    """Yield the data of each item in an item location box (ISO/IEC 14496-12, 8.11.3)."""
    version, sizes, more_sizes = iloc[0], iloc[4], iloc[5]
    id_bytes = 4 if version == 2 else 2
    index_size = more_sizes & 15 if version else 0
    reader, joined_bytes = _ByteReader(iloc, 6), 0
    for _ in range(reader.number(id_bytes)):
        reader.number(id_bytes)  # item_ID
        within = idat if version and reader.number(2) & 15 == 1 else file  # construction_method
        reader.number(2)  # data_reference_index
        base = reader.number(more_sizes >> 4)
        extents = []
        for _ in range(reader.number(2)):
            steps.take()
            reader.number(index_size)  # extent_index
            start = base + reader.number(sizes >> 4)
            length = reader.number(sizes & 15)
            extents.append(within[start : start + length if length else len(within)])
        steps.take()
        if len(extents) == 1:
            yield extents[0]
        elif extents:
            # Extents may overlap, so that joining them could take far more memory than the file.
            joined_bytes += sum(map(len, extents))
            if joined_bytes > len(file):
                raise ImageDecodeError(_DAMAGED)
            yield memoryview(b"".join(extents))


def _first_samples(moov: _View, file: _View, steps: _StepBudget) -> Iterator[_View]:
    """Yield the first frame of each track. The decoder reads no others."""
    tables = [moov]
    for kind in _SAMPLE_TABLE_PATH:
        tables = [box for part in tables for name, box in _boxes(part, steps) if name == kind]
    for table in tables:
        boxes = _boxes_by_kind(table, steps)
        wide = b"co64" in boxes
        offsets, lengths = boxes.get(b"co64", boxes.get(b"stco")), boxes.get(b"stsz")
        if offsets is None or lengths is None:
            continue
        (start,) = struct.unpack_from(">Q" if wide else ">I", offsets, 8)
        # A sample size for all, the number of samples, and if the first is 0 a size for each.
        common, _, *own = struct.unpack_from(">II" if len(lengths) < 16 else ">III", lengths, 4)
        yield file[start : start + (common or own[0])]


def _sequence_sizes(data: _View, steps: _StepBudget) -> Iterator[tuple[int, int]]:
    """Yield width and height of every sequence header among the OBUs (AV1, section 5.3)."""
    place = 0
    while place < len(data):
        steps.take()
        head = data[place]
        place += 2 if head & 4 else 1  # obu_extension_flag
        size = len(data) - place
        if head & 2:  # obu_has_size_field
            size, place = _leb128(data, place)
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            yield _frame_size(_BitReader(data[place : place + min(size, _MAX_HEADER_BYTES)]))
        place += size


def _leb128(data: _View, place: int) -> tuple[int, int]:
    """Return the number at an offset, and the offset after it (AV1, section 4.10.5)."""
    value = 0
    for shift in range(0, 56, 7):
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            break
    return value, place


class _ByteReader:
    """Reads big-endian numbers of whole bytes, one after the other."""

    def __init__(self, view: _View, place: int) -> None:
        self._view, self._place = view, place

    def number(self, size: int) -> int:
        end = self._place + size
        if end > len(self._view):
            raise IndexError("the box ends")
        value = int.from_bytes(self._view[self._place : end])
        self._place = end
        return value


class _BitReader:
    """Reads numbers of single bits, one after the other."""

    def __init__(self, data: _View) -> None:
        self._value, self._left = int.from_bytes(data), 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise IndexError("the header ends")
        return self._value >> self._left & (1 << count) - 1


def _frame_size(bits: _BitReader) -> tuple[int, int]:
    """Return max_frame_width and max_frame_height of a sequence header (AV1, section 5.5.1)."""
    bits.take(4)  # seq_profile, still_picture
    if bits.take(1):  # reduced_still_picture_header
        bits.take(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(width_bits) + 1, bits.take(height_bits) + 1


def _skip_operating_points(bits: _BitReader) -> None:
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


def _skip_uvlc(bits: _BitReader) -> None:
    zeros = 0
    while not bits.take(1):
        zeros += 1
    if zeros < 32:
        bits.take(zeros)
