"""The run-length code of Label Studio's brush.

It is the format of thi.ng's rle-pack, for the values of a flattened RGBA picture
(https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack): 32 bits number of values, 5
bits size of a value - 1, four times 4 bits size of a length field - 1; then tokens. A token is one
bit "repeated", two bits that choose the length field, the length - 1 in that field, and the value
(repeated) or as many values. Bits are numbered from the highest of the first byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from prelabel.errors import RequestError
from prelabel.masks.runs import bounds
from prelabel.types import Ints

_CHANNELS = 4
_VALUE = 255  # Label Studio's page takes the value as alpha: 1 would be invisible
_VALUE_BITS = 8
_LENGTH_BITS = 16  # the largest length field
_HEADER_BITS = 32 + 5 + 4 * 4
_WORD = 64

# All choices of three length fields below the largest one, [455, 4].
_FIELDS = np.array([(*three, _LENGTH_BITS) for three in combinations(range(1, _LENGTH_BITS), 3)])


def encode_rle(runs: Ints, pixel_count: int) -> bytes:
    """Encode a mask of a whole picture.

    The sizes of the length fields are those that give the fewest bytes. The SDK and Label Studio's
    page write 3, 4, 8 and 16, and read any.

    Args:
        runs: [N, 2] of the picture.
        pixel_count: Width times height of the picture, less than 2 ** 30.
    """
    edges = np.concatenate(([0], runs.ravel(), [pixel_count])) * _CHANNELS
    lengths, values = _split(np.diff(edges))
    need = np.maximum(_bit_length(lengths - 1), 1)
    fields = _smallest_fields(need)
    choice = np.searchsorted(fields, need)
    field = fields[choice]
    tokens = ((4 | choice) << field | (lengths - 1)) << _VALUE_BITS | values
    header = pixel_count * _CHANNELS << 5 | (_VALUE_BITS - 1)
    for size in fields.tolist():
        header = header << 4 | (size - 1)
    return _packed(header, tokens, field + (3 + _VALUE_BITS))


def decode_rle(data: bytes, most_values: int | None = None) -> NDArray[np.uint8]:
    """Decode the values, uint8 [N]; four a pixel in Label Studio's masks.

    Args:
        data: The bytes.
        most_values: Largest N, because some bytes can claim 4 GB; None for no limit.

    Raises:
        RequestError: The bytes are not such a code, or claim more than `most_values` values.
    """
    count = _value_count(data)
    if most_values is not None and count > most_values:
        raise RequestError(
            f"A brush mask's RLE has {count} values, but its picture has room for {most_values}. "
            "Send the mask of this picture."
        )
    values = np.zeros(count, dtype=np.uint8)
    for start, stop, value in _value_runs(data, count):
        values[start:stop] = value
    return values


def rle_bounds(data: bytes, image_wh: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Return the smallest box around a mask, xyxy in whole pixels; None for an empty mask.

    The mask itself is not built: the time depends on the number of bytes alone.

    Args:
        data: The bytes.
        image_wh: Width and height of the picture.

    Raises:
        RequestError: The bytes are not such a code, or are the mask of another size.
    """
    count, width = _value_count(data), image_wh[0]
    if count != width * image_wh[1] * _CHANNELS:
        raise RequestError(
            f"A brush mask's RLE has {count} values, which do not fit its picture. "
            "Send the mask of this picture."
        )
    spans = [(start, stop) for start, stop, value in _value_runs(data, count) if value]
    if not spans:
        return None
    starts, stops = np.array(spans, dtype=np.int64).T
    # A pixel counts if one of its values does.
    return bounds(np.stack((starts // _CHANNELS, -(-stops // _CHANNELS)), axis=1), width)


def _value_count(data: bytes) -> int:
    if len(data) * 8 < _HEADER_BITS:
        raise RequestError(
            f"A brush mask's RLE has {len(data)} bytes, fewer than its header. Send it complete."
        )
    return _read(data, 0, 32)


def _value_runs(data: bytes, count: int) -> Iterator[tuple[int, int, int]]:
    """Yield runs of equal values: start, end and value. Neighbours can have the same value."""
    value_bits = _read(data, 32, 5) + 1
    fields = [_read(data, 37 + 4 * i, 4) + 1 for i in range(4)]
    if value_bits > _VALUE_BITS:
        raise RequestError(
            f"A brush mask's RLE has values of {value_bits} bits. Send values of 8 bits."
        )
    at, done = _HEADER_BITS, 0
    while done < count:
        token = _read(data, at, 3)
        field = fields[token & 3]
        length = _read(data, at + 3, field) + 1
        at += 3 + field
        stored = 1 if token & 4 else length
        if at + stored * value_bits > len(data) * 8:
            raise RequestError(
                f"A brush mask's RLE ends after {done} of {count} values. Send it complete."
            )
        for i in range(min(stored, count - done)):  # the last token can reach beyond the picture
            start = done + i
            stop = min(count, done + length) if token & 4 else start + 1
            yield start, stop, _read(data, at + i * value_bits, value_bits)
        at += stored * value_bits
        done += length


def _split(lengths: Ints) -> tuple[Ints, Ints]:
    """Give lengths, which alternate between background and mask, their values.

    Empty runs are dropped. Runs that are longer than the largest length field can say are cut.
    """
    values: Ints = np.zeros(len(lengths), dtype=np.int64)
    values[1::2] = _VALUE
    some = lengths > 0
    lengths, values = lengths[some], values[some]
    parts = (lengths + ((1 << _LENGTH_BITS) - 1)) >> _LENGTH_BITS
    if parts.sum() == len(parts):
        return lengths, values
    values = np.repeat(values, parts)
    pieces = np.full_like(values, 1 << _LENGTH_BITS)
    pieces[np.cumsum(parts) - 1] = lengths - ((parts - 1) << _LENGTH_BITS)
    return pieces, values


def _bit_length(numbers: Ints) -> Ints:
    return np.frexp(numbers.astype(np.float64))[1].astype(np.int64)


def _smallest_fields(need: Ints) -> Ints:
    """Choose the four length fields, ascending, for lengths that need so many bits; [4]."""
    up_to = np.cumsum(np.bincount(need, minlength=_LENGTH_BITS + 1))
    fields = np.minimum(_FIELDS, int(need.max(initial=1)))
    bits = (np.diff(up_to[_FIELDS], axis=1, prepend=0) * fields).sum(axis=1)
    smallest: Ints = fields[bits.argmin()]
    return smallest


def _packed(header: int, tokens: Ints, sizes: Ints) -> bytes:
    """Write the header and then tokens of `sizes` bits, each shorter than half a word."""
    stops = np.cumsum(sizes) + _HEADER_BITS
    total = int(stops[-1]) if len(stops) else _HEADER_BITS
    words = np.zeros(total // _WORD + 2, dtype=np.uint64)
    words[0] = header << (_WORD - _HEADER_BITS)
    if len(stops):
        starts = stops - sizes
        word = starts // _WORD
        shift = _WORD - (stops - word * _WORD)  # negative for the tokens that end in the next word
        bits = tokens.astype(np.uint64)
        cut = np.flatnonzero(shift < 0)
        words[word[cut] + 1] = bits[cut] << (shift[cut] + _WORD).astype(np.uint64)
        bits[cut] >>= (-shift[cut]).astype(np.uint64)
        bits <<= np.maximum(shift, 0).astype(np.uint64)
        first = np.flatnonzero(np.diff(word, prepend=-1))  # of the tokens that begin in a word
        words[word[first]] |= np.bitwise_or.reduceat(bits, first)
    return words.astype(">u8").tobytes()[: (total + 7) // 8]


def _read(data: bytes, at: int, size: int) -> int:
    """Return `size` bits at bit `at` as a number; bits behind the end are 0."""
    chunk = int.from_bytes(data[at >> 3 : (at >> 3) + 5].ljust(5, b"\0"))
    return chunk >> (40 - (at & 7) - size) & ((1 << size) - 1)
