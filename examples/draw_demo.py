"""Draw the pictures of examples/demo from scenes.yaml, and write their true boxes to cases.json.

Needs requirements/train.txt and npm, because the drawings come from icon sets of the npm registry:

    make .venv/train.stamp && .venv/bin/python -m examples.draw_demo

The output is deterministic.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageDraw, ImageFilter

from training import WORK
from training.icons import Drawing, icon_sets, load_sprites
from training.shapes import RGB, shape_mask
from training.world import load_world

HERE = Path(__file__).resolve().parent
DEMO = HERE / "demo"
LARGEST_PX = 400  # longer side of a drawing before it is scaled
SMOOTHING = 2  # supersampling factor of the backgrounds
GRAIN = 1.2  # standard deviation of film grain, JPEG only: it would bloat PNG files
SHADOW = (40, 40, 50)
ROTATED = 6  # EXIF orientation: rotate by 90 degrees clockwise for display

Colour = tuple[int, int, int]
Drawings = dict[str, dict[str, list[Drawing]]]
WH = tuple[int, int]


@dataclass(frozen=True)
class Thing:
    """One drawn object. scenes.yaml documents the fields."""

    thing: tuple[str, float, float, float]
    drawing: int = 0
    stands: bool = False
    mirrored: bool = False
    tilt: float = 0
    called: str = ""

    @property
    def label(self) -> str:
        """Name of the object in the prompt."""
        return self.called or self.thing[0]


@dataclass(frozen=True)
class Picture:
    """One picture. scenes.yaml documents the fields."""

    file: str
    size: WH
    ground: str
    things: list[dict[str, Any]]
    style: str = ""
    absent: tuple[str, ...] = ()
    from_above: bool = False
    lying: bool = False


def main() -> None:
    """Draw every picture into examples/demo."""
    sprites = load_sprites(load_world(), WORK / "icons", icon_sets("held_out"), LARGEST_PX)
    pictures = [Picture(**entry) for entry in yaml.safe_load((HERE / "scenes.yaml").read_text())]
    cases = [_draw(picture, sprites.drawings) for picture in pictures]
    text = json.dumps(cases, indent=2, ensure_ascii=False)
    (DEMO / "cases.json").write_text(text + "\n", encoding="utf-8")


def _draw(picture: Picture, drawings: Drawings) -> dict[str, object]:
    """Draw and save a picture. Returns its entry in cases.json."""
    width, height = picture.size
    canvas = _ground(picture.ground, (width, height))
    boxes = []
    for entry in picture.things:
        thing = Thing(**entry)
        _, x, y, _ = thing.thing
        drawing = _drawing(thing, picture, drawings)
        left = round(x / 100 * width - drawing.width / 2)
        top = round(y / 100 * height - drawing.height / 2)
        if thing.stands:
            _cast_shadow(canvas, left + drawing.width / 2, top + drawing.height, drawing.width)
        elif picture.from_above:
            _lay_shadow(canvas, drawing, (left, top))
        canvas.paste(drawing, (left, top), drawing)
        boxes.append(_box(thing.label, (left, top), drawing.size, picture.size))
    _save(canvas, picture)
    labels = list(dict.fromkeys([*(str(box["label"]) for box in boxes), *picture.absent]))
    prompt = " . ".join(labels)
    return {"image": picture.file, "prompt": prompt, "labels": labels, "boxes": boxes}


def _box(label: str, left_top: WH, size: WH, picture: WH) -> dict[str, object]:
    """Return an entry of cases.json: label and box in percent of the picture."""
    x, y = (100 * a / b for a, b in zip(left_top, picture, strict=True))
    width, height = (100 * a / b for a, b in zip(size, picture, strict=True))
    inside = min(x, y) >= 0 and max(x + width, y + height) <= 100
    assert inside, f"{label} leaves the picture: {x:.1f}, {y:.1f}, {width:.1f} x {height:.1f} %"
    numbers = {"x": x, "y": y, "width": width, "height": height}
    return {"label": label} | {name: round(number, 3) for name, number in numbers.items()}


def _drawing(thing: Thing, picture: Picture, drawings: Drawings) -> Image.Image:
    name, _, _, size = thing.thing
    colour, _, shape = name.partition(" ")
    if colour in RGB:
        drawing = Image.new("RGBA", (LARGEST_PX, LARGEST_PX), (*RGB[colour], 255))
        drawing.putalpha(shape_mask(shape, (LARGEST_PX, LARGEST_PX)))
    else:
        drawing = Image.fromarray(drawings[name][picture.style][thing.drawing])
    if thing.mirrored:
        drawing = drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if thing.tilt:
        drawing = drawing.rotate(thing.tilt, Image.Resampling.BICUBIC, expand=True)
        drawing = drawing.crop(drawing.getchannel("A").getbbox())
    scale = size / 100 * min(picture.size) / max(drawing.size)
    wh = round(drawing.width * scale), round(drawing.height * scale)
    return drawing.resize(wh, Image.Resampling.LANCZOS)


def _cast_shadow(canvas: Image.Image, x: float, y: float, width: float) -> None:
    """Draw a soft shadow below an object whose bottom centre is at (x, y), pixels."""
    height = max(6.0, width * 0.12)
    mask = Image.new("L", canvas.size, 0)
    ellipse = (x - width * 0.48, y - height * 0.7, x + width * 0.48, y + height * 0.5)
    ImageDraw.Draw(mask).ellipse(ellipse, fill=95)
    canvas.paste(SHADOW, (0, 0), mask.filter(ImageFilter.GaussianBlur(height * 0.3)))


def _lay_shadow(canvas: Image.Image, drawing: Image.Image, left_top: WH) -> None:
    """Draw a soft shadow of an object seen from above, shifted to the lower right."""
    shift = 0.008 * min(canvas.size)
    outline = drawing.getchannel("A").point(lambda alpha: alpha * 0.45)
    mask = Image.new("L", canvas.size, 0)
    mask.paste(outline, (round(left_top[0] + shift), round(left_top[1] + 1.5 * shift)))
    canvas.paste(SHADOW, (0, 0), mask.filter(ImageFilter.GaussianBlur(shift)))


def _save(canvas: Image.Image, picture: Picture) -> None:
    path = DEMO / picture.file
    if path.suffix == ".png":
        canvas.save(path, optimize=True)
        return
    grain = np.random.default_rng(0).normal(0, GRAIN, (canvas.height, canvas.width, 1))
    canvas = Image.fromarray((np.asarray(canvas) + grain).clip(0, 255).astype(np.uint8))
    exif = Image.Exif()
    if picture.lying:
        canvas = canvas.transpose(Image.Transpose.ROTATE_90)
        exif[0x0112] = ROTATED
    canvas.save(path, quality=90, optimize=True, exif=exif)


def _ground(name: str, wh: WH) -> Image.Image:
    large = (wh[0] * SMOOTHING, wh[1] * SMOOTHING)
    return GROUNDS[name](large).resize(wh, Image.Resampling.LANCZOS)


def _slope(wh: WH, top: Colour, bottom: Colour) -> Image.Image:
    """Return a vertical gradient."""
    share = np.linspace(0, 1, wh[1])[:, None, None]
    rows = np.array(top) * (1 - share) + np.array(bottom) * share
    return Image.fromarray(np.broadcast_to(rows, (wh[1], wh[0], 3)).astype(np.uint8))


def _hill(picture: Image.Image, level: float, swell: float, phase: float, colour: Colour) -> None:
    """Fill the area below a sine curve. level, swell: shares of the picture's height."""
    width, height = picture.size
    xs = np.linspace(0, width, 200)
    ys = height * (level + swell * np.sin(phase + 5.2 * xs / width))
    outline = [*zip(xs.tolist(), ys.tolist(), strict=True), (width, height), (0, height)]
    ImageDraw.Draw(picture).polygon(outline, fill=colour)


def _meadow(wh: WH) -> Image.Image:
    picture = _slope(wh, (178, 208, 226), (226, 234, 226))
    _hill(picture, 0.44, 0.05, 0.4, (176, 196, 164))
    _hill(picture, 0.56, 0.04, 2.6, (160, 184, 140))
    _hill(picture, 0.7, 0.03, 4.4, (146, 172, 124))
    return picture


def _snow(wh: WH) -> Image.Image:
    picture = _slope(wh, (142, 166, 192), (186, 200, 212))
    _hill(picture, 0.5, 0.05, 1.0, (200, 212, 220))
    _hill(picture, 0.64, 0.04, 3.4, (214, 222, 228))
    return picture


def _night(wh: WH) -> Image.Image:
    picture = _slope(wh, (34, 42, 72), (84, 88, 120))
    draw, rng = ImageDraw.Draw(picture), np.random.default_rng(4)
    for x, y in rng.random((46, 2)):
        radius = rng.uniform(0.001, 0.003) * wh[0]
        centre = (x * wh[0], y * 0.6 * wh[1])
        draw.circle(centre, radius, fill=(206, 210, 224))
    _hill(picture, 0.76, 0.04, 2.0, (66, 82, 84))
    _hill(picture, 0.86, 0.03, 5.0, (56, 70, 74))
    return picture


def _sea(wh: WH) -> Image.Image:
    picture = _slope(wh, (190, 214, 226), (228, 232, 224))
    for i, colour in enumerate([(132, 176, 196), (118, 164, 188), (104, 152, 178)]):
        _wave(picture, 0.46 + 0.13 * i, 9 + 2 * i, colour)
    _hill(picture, 0.86, 0.025, 0.8, (222, 206, 172))
    return picture


def _wave(picture: Image.Image, level: float, crests: int, colour: Colour) -> None:
    width, height = picture.size
    xs = np.linspace(0, width, 400)
    ys = height * (level - 0.012 * np.abs(np.sin(math.pi * crests * xs / width)))
    outline = [*zip(xs.tolist(), ys.tolist(), strict=True), (width, height), (0, height)]
    ImageDraw.Draw(picture).polygon(outline, fill=colour)


def _street(wh: WH) -> Image.Image:
    width, height = wh
    picture = _slope(wh, (192, 208, 220), (222, 224, 220))
    draw = ImageDraw.Draw(picture)
    skyline = [0.3, 0.22, 0.34, 0.26, 0.38, 0.24, 0.31, 0.2]
    for i, top in enumerate(skyline):
        left = width * i / len(skyline)
        draw.rectangle((left, height * top, left + width / 8, height), fill=(196, 198, 204))
    draw.rectangle((0, height * 0.56, width, height), fill=(188, 184, 178))
    draw.rectangle((0, height * 0.63, width, height), fill=(140, 142, 148))
    for i in range(8):
        left = width * (i + 0.2) / 8
        draw.rectangle(
            (left, height * 0.8, left + width / 14, height * 0.815), fill=(214, 212, 200)
        )
    return picture


def _table(wh: WH) -> Image.Image:
    """Draw wooden planks with grain."""
    width, height = wh
    y, x = np.mgrid[0:height, 0:width] / height
    rng = np.random.default_rng(2)
    plank = (y * 4).astype(int)
    tone = rng.uniform(-8, 8, 5)[plank]
    grain = 3 * np.sin(90 * y + 5 * np.sin(2.5 * x + plank * 2)) + 2 * np.sin(240 * y + 3 * x)
    wood = np.array([198, 172, 140]) + (tone + grain)[..., None]
    wood[(y * 4) % 1 < 0.012] -= 34
    return Image.fromarray(wood.clip(0, 255).astype(np.uint8))


def _room(wh: WH) -> Image.Image:
    width, height = wh
    picture = _slope(wh, (212, 200, 208), (200, 188, 200))
    draw = ImageDraw.Draw(picture)
    for i in range(0, 12, 2):
        draw.rectangle((width * i / 11, 0, width * (i + 1) / 11, height), fill=(206, 194, 204))
    draw.rectangle((0, height * 0.7, width, height), fill=(178, 156, 138))
    draw.rectangle((0, height * 0.69, width, height * 0.705), fill=(226, 220, 216))
    return picture


def _paper(wh: WH) -> Image.Image:
    """Draw squared paper."""
    picture = _slope(wh, (172, 178, 184), (154, 160, 168))
    draw, step = ImageDraw.Draw(picture), min(wh) / 16
    for i in range(1, round(max(wh) / step)):
        draw.line((i * step, 0, i * step, wh[1]), fill=(182, 188, 194), width=SMOOTHING)
        draw.line((0, i * step, wh[0], i * step), fill=(182, 188, 194), width=SMOOTHING)
    return picture


GROUNDS: dict[str, Callable[[WH], Image.Image]] = {
    "meadow": _meadow,
    "snow": _snow,
    "night": _night,
    "sea": _sea,
    "street": _street,
    "table": _table,
    "room": _room,
    "paper": _paper,
}

if __name__ == "__main__":
    main()
