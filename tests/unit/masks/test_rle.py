from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_studio_sdk.converter import brush as untyped_brush

from prelabel.errors import RequestError
from prelabel.masks.rle import decode_rle, encode_rle, rle_bounds
from prelabel.masks.runs import NO_RUNS, mask_of_runs, runs_of_mask
from prelabel.types import Ints, Masks
from tests.support.masks import soft_noise

brush: Any = untyped_brush


def values_of(mask: Masks) -> Ints:
    return np.repeat(mask.ravel() * np.uint8(255), 4)


def encoded(mask: Masks) -> bytes:
    height, width = mask.shape
    return encode_rle(runs_of_mask(mask, (0, 0), (width, height)), mask.size)


def small_mask(random: np.random.Generator) -> Masks:
    height, width = random.integers(1, 14, 2).tolist()
    if random.random() < 0.5:
        return np.asarray(soft_noise(random, width, height, int(random.integers(2, 6))) > 0)
    return np.asarray(random.random((height, width)) < random.random())


@pytest.mark.parametrize(
    ("runs", "wh"),
    [
        ([], (3, 2)),
        ([[0, 6]], (3, 2)),
        ([[0, 1]], (1, 1)),
        ([[2, 3]], (3, 2)),
        ([[5, 6]], (3, 2)),
        ([[0, 1], [2, 3], [4, 5]], (3, 2)),
        ([[7, 1000]], (40, 30)),
        ([[0, 16384]], (128, 128)),  # the longest run of one token
        ([[0, 16385], [16386, 40000]], (200, 200)),
        ([[1, 99_999]], (500, 200)),
    ],
)
def test_the_sdk_reads_the_mask(runs: list[list[int]], wh: tuple[int, int]) -> None:
    mask = mask_of_runs(np.array(runs, dtype=np.int64).reshape(-1, 2), wh)
    code = encoded(mask)
    np.testing.assert_array_equal(brush.decode_rle(list(code)), values_of(mask))
    np.testing.assert_array_equal(decode_rle(code), values_of(mask))
    assert len(code) <= len(brush.mask2rle(mask * np.uint8(255)))


def test_a_picture_without_pixels_is_a_header() -> None:
    code = encode_rle(NO_RUNS, 0)
    assert len(code) == 7
    assert decode_rle(code).tolist() == []


@pytest.mark.slow
def test_ten_thousand_masks_are_read_by_the_sdk_and_take_no_more_bytes() -> None:
    random = np.random.default_rng(7)
    for _ in range(10_000):
        mask = small_mask(random)
        code = encoded(mask)
        np.testing.assert_array_equal(brush.decode_rle(list(code)), values_of(mask))
        assert len(code) <= len(brush.mask2rle(mask * np.uint8(255)))


def test_masks_of_pictures_take_fewer_bytes_than_the_sdk() -> None:
    random = np.random.default_rng(8)
    for knots in (3, 6, 12, 25):
        mask = soft_noise(random, 700, 500, knots) > 0.3
        code = encoded(mask)
        np.testing.assert_array_equal(decode_rle(code), values_of(mask))
        assert len(code) < len(brush.mask2rle(mask * np.uint8(255)))


@given(st.lists(st.integers(0, 255), min_size=1, max_size=60))
def test_any_code_of_the_sdk_is_read(values: list[int]) -> None:
    # Values that occur once are written without repetition, as a brush with a soft edge does.
    code = bytes(brush.encode_rle(np.array(values)))
    assert decode_rle(code).tolist() == values


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (b"", "has 0 bytes"),
        (encode_rle(NO_RUNS, 10)[:6], "fewer than its header"),
        (encode_rle(np.array([[3, 9]]), 20)[:-2], "ends after"),
        (bytes([255, 255, 255, 255, 0x39, 0, 0, 0, 0]), "room for 1000"),
        (bytes([0, 0, 0, 8, 0x78, 0, 0, 0, 0]), "values of 16 bits"),
    ],
)
def test_damaged_codes_are_refused(code: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        decode_rle(code, 1000)


@given(st.binary(max_size=40))
def test_no_bytes_break_the_decoder(data: bytes) -> None:
    with contextlib.suppress(RequestError):
        assert decode_rle(data, 100_000).dtype == np.uint8


@given(st.binary(max_size=60), st.integers(1, 30), st.integers(1, 30))
def test_bounds_are_those_of_the_decoded_mask(data: bytes, width: int, height: int) -> None:
    values = width * height * 4
    code = values.to_bytes(4, "big") + bytes([0x38 | data[0] & 7 if data else 0x38]) + data[1:]
    try:
        mask = decode_rle(code, values).reshape(height, width, 4).any(axis=2)
    except RequestError:
        with pytest.raises(RequestError):
            rle_bounds(code, (width, height))
        return
    rows, columns = np.nonzero(mask)
    expected = None
    if len(rows):
        expected = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert rle_bounds(code, (width, height)) == expected


def test_values_beyond_the_picture_have_no_bounds() -> None:
    code = b"\x00\x00\x00\x048\x08\x01@\x00\x0c\x00\x00\x02"
    assert not decode_rle(code, 4).any()
    assert rle_bounds(code, (1, 1)) is None


def test_bounds_of_masks_that_the_sdk_wrote() -> None:
    random = np.random.default_rng(5)
    for _ in range(200):
        mask = small_mask(random)
        code = bytes(brush.mask2rle(mask * np.uint8(255)))
        rows, columns = np.nonzero(mask)
        box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if len(rows) else None
        assert rle_bounds(code, (mask.shape[1], mask.shape[0])) == box


def test_the_mask_of_another_picture_has_no_bounds() -> None:
    with pytest.raises(RequestError, match="do not fit its picture"):
        rle_bounds(encode_rle(NO_RUNS, 10), (3, 3))
