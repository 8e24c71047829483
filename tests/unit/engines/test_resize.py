"""The C kernel against Pillow, whose values it has to return exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from prelabel.engines.kernels import resize
from prelabel.engines.kernels.library import kernels
from prelabel.types import ImageRGB

Size = tuple[int, int]


def noise(hw: Size, seed: int = 0) -> ImageRGB:
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3), dtype=np.uint8)


def by_pillow(image: ImageRGB, hw: Size) -> ImageRGB:
    return np.array(Image.fromarray(image).resize((hw[1], hw[0]), Image.Resampling.BILINEAR))


def test_there_is_a_kernel() -> None:
    assert kernels() is not None  # else the other tests would compare Pillow with itself


@pytest.mark.parametrize(
    ("hw", "out_hw"),
    [
        ((853, 1280), (800, 1200)),
        ((1500, 2000), (800, 1066)),
        ((480, 640), (800, 1066)),
        ((112, 112), (112, 112)),
        ((1, 1), (32, 32)),
        ((1, 1000), (32, 224)),
        ((4000, 3), (200, 32)),
        ((5000, 5000), (32, 32)),
        # Pillow resizes the columns first if that saves it work.
        ((400, 40), (100, 50)),
        ((300, 200), (100, 99)),
        ((300, 200), (100, 101)),
    ],
)
def test_usual_and_extreme_sizes(hw: Size, out_hw: Size) -> None:
    image = noise(hw)
    assert np.array_equal(resize.resize_bilinear(image, out_hw), by_pillow(image, out_hw))


@settings(max_examples=200, deadline=None)
@given(st.tuples(*[st.integers(1, 150)] * 4), st.integers(0, 2**32 - 1), st.booleans())
def test_any_sizes(sides: tuple[int, int, int, int], seed: int, extreme: bool) -> None:
    image = noise(sides[:2], seed)
    if extreme:
        image = np.where(image > 127, 255, 0).astype(np.uint8)
    assert np.array_equal(resize.resize_bilinear(image, sides[2:]), by_pillow(image, sides[2:]))


def test_part_of_a_picture_and_mirrored_one() -> None:
    image = noise((200, 300))
    for part in (image[20:120, 31:231], image[::-1], image[:, ::-1], image[::2], image[..., ::-1]):
        resized = resize.resize_bilinear(part, (77, 99))
        assert np.array_equal(resized, by_pillow(np.ascontiguousarray(part), (77, 99)))


def test_result_is_new_and_the_picture_unchanged() -> None:
    image = noise((50, 60))
    before = image.copy()
    image.setflags(write=False)
    resized = resize.resize_bilinear(image, (50, 60))
    resized[:] = 0
    assert np.array_equal(image, before)


def test_without_kernels_pillow_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    image = noise((70, 90))
    expected = resize.resize_bilinear(image, (33, 44))
    monkeypatch.setattr(resize, "kernels", lambda: None)
    assert np.array_equal(resize.resize_bilinear(image, (33, 44)), expected)
