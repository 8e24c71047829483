"""Pictures that are decoded at a fraction of their size: the same frame, orientation and errors."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from prelabel.detection.pictures import Picture
from prelabel.detection.reduction import SeenSize, reduction
from prelabel.detection.tiling import Tile
from prelabel.errors import ImageDecodeError
from prelabel.images.decode import DecodedImage, decode_image, decode_reduced

ENOUGH = 10_000_000
WH = (403, 301)  # no multiples of 8
SPOT = (297.0, 96.0)  # its centre in the upright picture


def spot() -> Image.Image:
    """A smooth light spot on grey."""
    x, y = np.meshgrid(np.arange(WH[0]) + 0.5, np.arange(WH[1]) + 0.5)
    light = np.exp(-((x - SPOT[0]) ** 2 + (y - SPOT[1]) ** 2) / (2 * 18**2))
    return Image.fromarray((60 + 180 * light).astype(np.uint8)).convert("RGB")


def encoded(
    image: Image.Image, kind: str = "JPEG", orientation: int = 1, **options: object
) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = BytesIO()
    image.save(file, "JPEG", exif=exif, quality=95, **options)
    return file.getvalue()


def decoded(file: bytes, scale: int) -> DecodedImage:
    return decode_reduced(file, max_pixels=ENOUGH, scale_of=lambda _: scale)


def centre_of_spot(image: DecodedImage) -> tuple[float, float]:
    """Return the centre of the light in pixels of the picture."""
    light = np.clip(image.pixels[..., 0].astype(float) - 70, 0, None)
    y, x = np.mgrid[: light.shape[0], : light.shape[1]] + 0.5
    at_x, at_y = (float((light * axis).sum() / light.sum()) for axis in (x, y))
    return (
        at_x * image.scale + image.origin_xy[0],
        at_y * image.scale + image.origin_xy[1],
    )


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_reduced_picture_lies_where_the_whole_one_does(orientation: int, scale: int) -> None:
    file = encoded(spot(), orientation=orientation)
    full, reduced = decoded(file, 1), decoded(file, scale)
    assert reduced.scale == scale
    assert reduced.wh == full.wh == (full.pixels.shape[1], full.pixels.shape[0])
    assert reduced.pixels.shape[0] == -(-full.pixels.shape[0] // scale)
    assert not reduced.pixels.flags.writeable
    assert all(-scale < origin <= 0 for origin in reduced.origin_xy)
    assert centre_of_spot(reduced) == pytest.approx(centre_of_spot(full), abs=0.15)


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}]
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_reduced_picture_has_the_mean_of_the_pixels(mode: str, options: dict[str, Any]) -> None:
    file = encoded(spot().crop((0, 0, 400, 300)).convert(mode), **options)
    full, reduced = decoded(file, 1), decoded(file, 2)
    means = full.pixels.reshape(150, 2, 200, 2, 3).mean((1, 3))
    assert np.abs(reduced.pixels - means).max() < 4


def test_the_scale_is_chosen_for_the_upright_picture() -> None:
    asked: list[tuple[int, int]] = []
    for orientation in (1, 6):
        decode_reduced(
            encoded(spot(), orientation=orientation),
            max_pixels=ENOUGH,
            scale_of=lambda wh: asked.append(wh) or 2,  # type: ignore[func-returns-value]
        )
    assert asked == [WH, WH[::-1]]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP"])
def test_other_formats_are_decoded_as_they_are(kind: str) -> None:
    file = BytesIO()
    spot().save(file, kind)
    image = decoded(file.getvalue(), 4)
    assert (image.scale, image.wh, image.origin_xy) == (1, WH, (0, 0))
    np.testing.assert_array_equal(image.pixels, decode_image(file.getvalue(), max_pixels=ENOUGH))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_turned_tiff_has_the_size_that_is_seen(orientation: int) -> None:
    exif, file = Image.Exif(), BytesIO()
    exif[0x0112] = orientation
    spot().save(file, "TIFF", exif=exif)
    image = decoded(file.getvalue(), 4)
    assert image.wh == (WH if orientation in (1, 3) else WH[::-1])
    assert image.wh == (image.pixels.shape[1], image.pixels.shape[0])


def test_pictures_of_two_lenses_are_reduced_too() -> None:
    file = BytesIO()
    spot().save(file, "MPO", save_all=True, append_images=[spot()])
    assert decoded(file.getvalue(), 4).pixels.shape == (76, 101, 3)


@pytest.mark.parametrize(
    ("wh", "scale"),
    [((1, 1), 1), ((7, 3), 2), ((8, 8), 8), ((9, 17), 4), ((9, 17), 8), ((15, 31), 8), ((3, 9), 2)],
)
def test_small_pictures(wh: tuple[int, int], scale: int) -> None:
    image = decoded(encoded(Image.new("RGB", wh, "red")), scale)
    assert image.scale == scale
    assert image.pixels.shape == (-(-wh[1] // scale), -(-wh[0] // scale), 3)


def test_a_reduced_picture_without_an_end_marker_is_checked() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    file = encoded(Image.fromarray(noise))
    whole = decoded(file[:-2], 4)
    np.testing.assert_array_equal(whole.pixels, decoded(file, 4).pixels)
    with pytest.raises(ImageDecodeError, match="cut off"):
        decoded(file[: len(file) // 2], 4)


def test_the_limit_of_pixels_is_that_of_the_whole_picture() -> None:
    with pytest.raises(ImageDecodeError, match="max_pixels"):
        decode_reduced(encoded(spot()), max_pixels=WH[0] * WH[1] - 1, scale_of=lambda _: 8)


@pytest.mark.parametrize(
    ("wh", "seen", "scale"),
    [
        ((4000, 3000), (1067, 800), 2),
        ((4000, 3000), (1333, 1000), 2),
        ((4000, 3000), (1334, 1001), 1),
        ((4000, 3000), (320, 240), 8),
        ((1280, 853), (1200, 800), 1),
        ((1280, 853), (100, 67), 1),
        ((2000, 1500), (100, 67), 8),
        ((100_000, 30), (1333, 32), 1),
    ],
)
def test_the_models_see_no_fewer_pixels(
    wh: tuple[int, int], seen: tuple[int, int], scale: int
) -> None:
    assert reduction(wh, [SeenSize(wh, seen)]) == scale
    assert reduction(wh, [SeenSize(wh, seen), SeenSize((100, 100), (60, 60))]) == 1


def test_of_nothing_that_is_seen_nothing_is_reduced() -> None:
    assert reduction((4000, 3000), []) == 1


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_part_of_a_view_holds_it(orientation: int, scale: int) -> None:
    image = decoded(encoded(spot(), orientation=orientation), scale)
    picture = Picture(b"", image, urgent=False)
    width, height = picture.wh
    whole = Tile(0, 0, width, height)
    views = [whole, Tile(0, 0, 100, 90), Tile(33, 47, 211, 222), Tile(width - 64, 0, width, 77)]
    for view in views:
        part = picture.part(view)
        region = part.region
        assert view.left - scale < region.left <= view.left
        assert view.top - scale < region.top <= view.top
        assert view.right <= region.right < view.right + scale
        assert view.bottom <= region.bottom < view.bottom + scale
        assert part.pixels.shape[:2] == (region.wh[1] // scale, region.wh[0] // scale)
        assert np.shares_memory(part.pixels, image.pixels)
    if scale == 1:
        assert picture.part(whole).region == whole
