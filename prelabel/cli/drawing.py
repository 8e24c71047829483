"""Draws predicted boxes onto an image."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from prelabel.labelstudio.responses import Region

RGB = tuple[int, int, int]

_GOLDEN_RATIO = 0.618033988749895  # hue step that keeps the colours of consecutive labels apart
_FIRST_HUE = 0.92  # pink
_DARK_LUMA = 140  # of 255; text on a darker colour is white
_TEXT_LINES_PER_EDGE = 28  # text height: the image's shorter edge / 28
_MIN_TEXT_PX = 10


@dataclass(frozen=True, slots=True)
class DrawnBox:
    """A box in pixels of the image, its label (which picks the colour) and the text of its tag."""

    xyxy: tuple[float, float, float, float]
    label: str
    text: str

    @classmethod
    def of(cls, region: Region) -> DrawnBox:
        """Convert a rectangle region, whose coordinates are percentages of the image."""
        value, width, height = region["value"], region["original_width"], region["original_height"]
        left, top = value["x"] * width / 100, value["y"] * height / 100
        right, bottom = left + value["width"] * width / 100, top + value["height"] * height / 100
        [label] = value["rectanglelabels"]
        return cls((left, top, right, bottom), label, f"{label} {region['score']:.2f}")


def draw_boxes(image: Image.Image, boxes: Sequence[DrawnBox]) -> Image.Image:
    """Return an RGB copy with the boxes drawn, one colour per label.

    Line width and text size follow the image's size. boxes: best first; drawn last, hence on top.
    """
    canvas = image.convert("RGB")
    draw = ImageDraw.Draw(canvas)
    text_px = max(round(min(canvas.size) / _TEXT_LINES_PER_EDGE), _MIN_TEXT_PX)
    colours = _colours([box.label for box in boxes])
    for box in reversed(boxes):
        draw.rectangle(box.xyxy, outline=colours[box.label], width=max(round(text_px / 6), 2))
    # All tags after all outlines, so that no outline crosses a tag.
    for box in reversed(boxes):
        _draw_tag(draw, box, colours[box.label], text_px, canvas.size)
    return canvas


def _draw_tag(
    draw: ImageDraw.ImageDraw, box: DrawnBox, colour: RGB, text_px: int, image_wh: tuple[int, int]
) -> None:
    """Draw a tag above its box, or inside the top edge if the image ends there."""
    font = ImageFont.load_default(text_px)
    left, top, right, bottom = draw.textbbox((0, 0), box.text, font=font)
    padding = text_px // 2
    width, height = right - left + padding, bottom - top + padding
    x = min(max(box.xyxy[0], 0), max(image_wh[0] - width, 0))
    y = box.xyxy[1] - height
    y = y if y >= 0 else max(min(box.xyxy[1], image_wh[1] - height), 0)
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    # ITU-R BT.601 luma.
    is_dark = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] < _DARK_LUMA
    # textbbox() does not start at 0: the font's bearing is subtracted.
    position = (x + text_px // 4 - left, y + text_px // 4 - top)
    draw.text(position, box.text, fill="white" if is_dark else "black", font=font)


def _colours(labels: Sequence[str]) -> dict[str, RGB]:
    distinct = list(dict.fromkeys(labels))
    return {label: _colour(index) for index, label in enumerate(distinct)}


def _colour(index: int) -> RGB:
    hue = _FIRST_HUE + index * _GOLDEN_RATIO
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.9, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)
