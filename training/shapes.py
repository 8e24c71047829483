"""Shapes and their colours."""

from __future__ import annotations

import math

from PIL import Image, ImageDraw

RGB: dict[str, tuple[int, int, int]] = {
    "red": (215, 30, 30),
    "green": (30, 160, 50),
    "blue": (35, 70, 220),
    "yellow": (240, 220, 40),
    "purple": (130, 40, 170),
    "orange": (245, 140, 20),
    "white": (250, 250, 250),
    "black": (15, 15, 15),
}
_RING_WIDTH = 0.26  # share of the diameter
_STAR_INNER_RADIUS = 0.42  # by the outer radius


def shape_mask(shape: str, size: tuple[int, int]) -> Image.Image:
    """Return a shape in white on black that fills a picture of width and height `size`."""
    mask = Image.new("L", size, 0)
    _draw_shape(ImageDraw.Draw(mask), shape, size[0] - 1, size[1] - 1)
    return mask


def _draw_shape(draw: ImageDraw.ImageDraw, shape: str, right: float, bottom: float) -> None:
    """Draw a shape in white from (0, 0) to (right, bottom)."""
    box = (0, 0, right, bottom)
    match shape:
        case "circle":
            draw.ellipse(box, fill=255)
        case "square":
            draw.rectangle(box, fill=255)
        case "ring":
            draw.ellipse(box, fill=255)
            near, far = _RING_WIDTH, 1 - _RING_WIDTH
            draw.ellipse((right * near, bottom * near, right * far, bottom * far), fill=0)
        case "triangle":
            draw.polygon([(right / 2, 0), (right, bottom), (0, bottom)], fill=255)
        case "cross":
            x, y = right / 3, bottom / 3
            draw.rectangle((x, 0, 2 * x, bottom), fill=255)
            draw.rectangle((0, y, right, 2 * y), fill=255)
        case "star":
            radii = [1 if i % 2 == 0 else _STAR_INNER_RADIUS for i in range(10)]
            angles = [-math.pi / 2 + i * math.pi / 5 for i in range(10)]
            xs = [r * math.cos(a) for r, a in zip(radii, angles, strict=True)]
            ys = [r * math.sin(a) for r, a in zip(radii, angles, strict=True)]
            draw.polygon(
                [
                    (
                        (x - min(xs)) / (max(xs) - min(xs)) * right,
                        (y - min(ys)) / (max(ys) - min(ys)) * bottom,
                    )
                    for x, y in zip(xs, ys, strict=True)
                ],
                fill=255,
            )
