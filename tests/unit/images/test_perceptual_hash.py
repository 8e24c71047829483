"""Perceptual hashes: near for copies of a picture, far for other pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from prelabel.images.perceptual_hash import perceptual_hash
from prelabel.projects.duplicates import MOST_DIFFERENT_BITS
from prelabel.types import ImageRGB

WH = (320, 240)


def drawing(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    picture = Image.new("RGB", WH, tuple(rng.integers(0, 255, 3).tolist()))
    draw = ImageDraw.Draw(picture)
    for _ in range(12):
        x, y, width, height, *colour = rng.integers(20, 200, 7).tolist()
        draw.ellipse((x, y, x + width, y + height), fill=tuple(colour))
    return picture


def distance(one: Image.Image, other: Image.Image) -> int:
    hashes = [perceptual_hash(np.asarray(each)) for each in (one, other)]
    return (hashes[0] ^ hashes[1]).bit_count()


def as_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


@pytest.mark.parametrize("seed", range(10))
def test_copies_of_a_picture_are_near(seed: int) -> None:
    picture = drawing(seed)
    assert distance(picture, picture) == 0
    assert distance(picture, as_jpeg(picture, 60)) <= MOST_DIFFERENT_BITS
    assert (
        distance(picture, picture.resize((1000, 750), Image.Resampling.BICUBIC))
        <= MOST_DIFFERENT_BITS
    )
    assert (
        distance(picture, picture.resize((160, 120), Image.Resampling.LANCZOS))
        <= MOST_DIFFERENT_BITS
    )
    assert distance(picture, ImageEnhance.Brightness(picture).enhance(0.9)) <= MOST_DIFFERENT_BITS


def test_other_pictures_are_far() -> None:
    pictures = [drawing(seed) for seed in range(40)]
    distances = [distance(a, b) for i, a in enumerate(pictures) for b in pictures[:i]]
    assert min(distances) > MOST_DIFFERENT_BITS
    assert 28 < float(np.mean(distances)) < 36  # half of 64 bits


@pytest.mark.parametrize("hw", [(1, 1), (1, 500), (500, 1), (31, 33)])
def test_any_size_has_a_hash(hw: tuple[int, int]) -> None:
    image: ImageRGB = np.random.default_rng(0).integers(0, 255, (*hw, 3), dtype=np.uint8)
    assert 0 <= perceptual_hash(image) < 2**64
