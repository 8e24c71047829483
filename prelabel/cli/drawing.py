"""Boxes onto a picture, for people to look at."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

_GOLDEN_RATIO = 0.618033988749895  # steps of it around the colour wheel keep neighbours apart


@dataclass(frozen=True, slots=True)
class DrawnBox:
    """Corners in pixels of the picture; the text stands on its tag."""

    xyxy: tuple[float, float, float, float]
    label: str
    text: str


def draw_boxes(image: Image.Image, boxes: Sequence[DrawnBox]) -> Image.Image:
    """A copy with the boxes drawn, a colour for each label; lines and text fit its size."""
    drawn = image.convert("RGB")
    pen = ImageDraw.Draw(drawn)
    size = max(round(min(drawn.size) / 28), 10)
    colours = _colours([box.label for box in boxes])
    for box in reversed(boxes):  # the best last, on top
        pen.rectangle(box.xyxy, outline=colours[box.label], width=max(round(size / 6), 2))
    for box in reversed(boxes):
        _draw_tag(pen, box, colours[box.label], size, drawn.size)
    return drawn


def _draw_tag(
    pen: ImageDraw.ImageDraw,
    box: DrawnBox,
    colour: tuple[int, int, int],
    size: int,
    image_wh: tuple[int, int],
) -> None:
    """Above the box where there is room, else inside its top; never beyond the picture."""
    font = ImageFont.load_default(size)
    left, top, right, bottom = pen.textbbox((0, 0), box.text, font=font)
    width, height = right - left + size // 2, bottom - top + size // 2
    x = min(max(box.xyxy[0], 0), max(image_wh[0] - width, 0))
    y = box.xyxy[1] - height
    y = y if y >= 0 else max(min(box.xyxy[1], image_wh[1] - height), 0)
    pen.rectangle((x, y, x + width, y + height), fill=colour)
    dark = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] < 140
    at = (x + size // 4 - left, y + size // 4 - top)
    pen.text(at, box.text, fill="white" if dark else "black", font=font)


def _colours(labels: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    distinct = list(dict.fromkeys(labels))
    return {label: _colour(index) for index, label in enumerate(distinct)}


def _colour(index: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(0.92 + index * _GOLDEN_RATIO, 0.9, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)
