"""Draws predicted boxes and masks onto an image."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageOps

from prelabel.labelstudio.responses import Region
from prelabel.masks.rle import decode_rle
from prelabel.types import Masks

RGB = tuple[int, int, int]

_GOLDEN_RATIO = 0.618033988749895  # hue step that keeps the colours of consecutive labels apart
_FIRST_HUE = 0.92  # pink
_DARK_LUMA = 140  # of 255; text on a darker colour is white
_TEXT_LINES_PER_EDGE = 28  # text height: the image's shorter edge / 28
_MIN_TEXT_PX = 10
_TRANSLUCENT, _OPAQUE = 110, 255  # opacity of masks inside and along their outline, of 255


@dataclass(frozen=True, slots=True)
class DrawnBox:
    """A box of a prediction.

    Attributes:
        xyxy: Its corners in pixels of the image.
        label: Its label, which picks the colour.
        text: The text of its tag.
        mask: bool [H, W], the mask of its object; None without one.
    """

    xyxy: tuple[float, float, float, float]
    label: str
    text: str
    mask: Masks | None = None

    @classmethod
    def of(cls, region: Region, brush: Region | None = None) -> DrawnBox:
        """Convert a rectangle region, whose coordinates are percentages of the image, and its mask.

        Raises:
            ValueError: The mask is not of the picture's size.
        """
        value, width, height = region["value"], region["original_width"], region["original_height"]
        left, top = value["x"] * width / 100, value["y"] * height / 100
        right, bottom = left + value["width"] * width / 100, top + value["height"] * height / 100
        [label] = value["rectanglelabels"]
        text = f"{label} {region['score']:.2f}"
        mask = None
        if brush is not None:
            values = decode_rle(bytes(brush["value"]["rle"]), 4 * width * height)
            mask = values[::4].reshape(height, width) > 0
        return cls((left, top, right, bottom), label, text, mask)


def draw_boxes(image: Image.Image, boxes: Sequence[DrawnBox]) -> Image.Image:
    """Return an RGB copy with the boxes and masks drawn, one colour per label.

    Line width and text size follow the image's size. boxes: best first; drawn last, hence on top.
    """
    canvas = image.convert("RGB")
    text_px = max(round(min(canvas.size) / _TEXT_LINES_PER_EDGE), _MIN_TEXT_PX)
    colours = _colours([box.label for box in boxes])
    for box in reversed(boxes):
        if box.mask is not None:
            _draw_mask(canvas, box.mask, colours[box.label], max(round(text_px / 8), 2))
    draw = ImageDraw.Draw(canvas)
    for box in reversed(boxes):
        draw.rectangle(box.xyxy, outline=colours[box.label], width=max(round(text_px / 6), 2))
    # All tags after all outlines, so that no outline crosses a tag.
    for box in reversed(boxes):
        _draw_tag(draw, box, colours[box.label], text_px, canvas.size)
    return canvas


def _draw_mask(canvas: Image.Image, mask: Masks, colour: RGB, line_px: int) -> None:
    """Tint the pixels of a mask, and draw its outline inside of them."""
    inside = Image.fromarray(mask)
    # Padded, so that the outline also follows the picture's edge.
    padded = ImageOps.expand(inside.convert("L"), line_px)
    core = padded.filter(ImageFilter.MinFilter(2 * line_px - 1))
    core = ImageOps.crop(core, line_px)
    opacity = core.point([_OPAQUE if value == 0 else _TRANSLUCENT for value in range(256)])
    opacity.paste(0, mask=ImageChops.invert(inside.convert("L")))
    canvas.paste(colour, mask=opacity)


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
