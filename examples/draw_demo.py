"""Draws the pictures of examples/demo and the boxes that belong to them (cases.json).

Needs Pillow, numpy and resvg_py (none of the project's other packages), and the four icon sets in
one folder. In a virtual environment of its own:

    pip install pillow numpy resvg_py
    mkdir icons && cd icons
    npm pack @iconify-json/noto @iconify-json/twemoji \
        @iconify-json/fluent-emoji @iconify-json/fluent-emoji-flat
    cd .. && python examples/draw_demo.py icons

The same icons give the same pictures: the only chance in it is the paper's grain, with a seed.
"""

from __future__ import annotations

import io
import json
import math
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

DEMO = Path(__file__).parent / "demo"
RGB = tuple[int, int, int]
Points = list[tuple[float, float]]
Drawing = Image.Image  # RGBA, cropped to what is drawn

STYLES = ("noto", "twemoji", "fluent-emoji", "fluent-emoji-flat")
ICON_PX = 512  # icons are drawn once at this size, then reduced
OPAQUE = 40  # alpha above which a pixel belongs to the drawing
GRAIN = 1.5  # standard deviation of the background's brightness
ROTATED = 6  # EXIF orientation: to be turned a quarter clockwise

COLOURS: dict[str, RGB] = {
    "red": (215, 30, 30),
    "green": (30, 160, 50),
    "blue": (35, 70, 220),
    "yellow": (240, 220, 40),
    "purple": (130, 40, 170),
    "orange": (245, 140, 20),
    "white": (250, 250, 250),
    "black": (15, 15, 15),
}
ICONS = {
    "apple": "red-apple",
    "car": "automobile",
    "clock": "alarm-clock",
    "coffee": "hot-beverage",
    "book": "closed-book",
    "dog": "dog-face",
    "gift": "wrapped-gift",
    "heart": "red-heart",
    "moon": "crescent-moon",
    "soccer ball": "soccer-ball",
    "tree": "deciduous-tree",
}


@dataclass(frozen=True)
class Thing:
    """What is drawn: an icon ("cat") or a coloured shape ("red star").

    x, y: its centre, in percent of the picture; size: its longest side, in percent of the
    picture's shortest; tilt: degrees counter-clockwise; icon: its name in the set where it is not
    the usual one; label: where the prompt calls it by another name ("star" for "red star").
    """

    name: str
    x: float
    y: float
    size: float
    tilt: float = 0
    mirrored: bool = False
    icon: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class Scene:
    """One picture. ground: its colours from top to bottom; absent: asked for, but not in it."""

    file: str
    wh: tuple[int, int]
    ground: tuple[RGB, ...]
    style: str
    things: tuple[Thing, ...]
    absent: tuple[str, ...] = ()

    @property
    def labels(self) -> list[str]:
        """The phrases of its prompt, in order of appearance."""
        return list(dict.fromkeys([*(t.label or t.name for t in self.things), *self.absent]))


SCENES = (
    Scene(
        "garden.jpg",
        (640, 480),
        ((176, 196, 205), (170, 190, 190), (152, 172, 138), (140, 160, 122)),
        "noto",
        (
            Thing("house", 27, 49, 46),
            Thing("tree", 71, 40, 44),
            Thing("cat", 52, 78, 30),
            Thing("sunflower", 87, 76, 30),
        ),
    ),
    Scene(
        "street.jpg",
        (640, 480),
        ((196, 199, 206), (178, 180, 186), (138, 140, 148)),
        "fluent-emoji-flat",
        (
            Thing("bus", 28, 36, 46),
            Thing("tree", 76, 32, 40),
            Thing("car", 72, 76, 38),
            Thing("bicycle", 27, 79, 32),
        ),
        ("airplane",),
    ),
    Scene(
        "breakfast.jpg",
        (512, 512),
        ((214, 204, 190), (196, 182, 164)),
        "fluent-emoji",
        (
            Thing("coffee", 29, 29, 36),
            Thing("banana", 72, 30, 36),
            Thing("apple", 30, 74, 32),
            Thing("book", 72, 74, 34),
        ),
        ("pizza",),
    ),
    Scene(
        "sky.png",
        (600, 500),
        ((128, 158, 190), (196, 208, 214)),
        "noto",
        (
            Thing("airplane", 27, 30, 40),
            Thing("sun", 79, 24, 32),
            Thing("bird", 71, 69, 32),
            Thing("butterfly", 29, 77, 28),
        ),
        ("rocket",),
    ),
    Scene(
        "harbour.jpg",
        (640, 480),
        ((190, 204, 208), (150, 178, 190), (104, 138, 158)),
        "fluent-emoji",
        (
            Thing("sailboat", 29, 35, 48),
            Thing("sun", 78, 24, 30),
            Thing("fish", 68, 76, 34),
            Thing("fish", 26, 82, 26, mirrored=True),
        ),
        ("umbrella",),
    ),
    Scene(
        "desk.png",
        (600, 500),
        ((186, 168, 146), (172, 154, 134)),
        "twemoji",
        (
            Thing("camera", 27, 28, 38),
            Thing("scissors", 73, 29, 34),
            Thing("book", 27, 75, 34, icon="blue-book"),
            Thing("clock", 72, 74, 34),
        ),
        ("key", "coffee"),
    ),
    Scene(
        "flowers.jpg",  # stored lying on its side
        (480, 600),
        ((188, 196, 178), (158, 170, 142)),
        "fluent-emoji-flat",
        (
            Thing("sunflower", 31, 27, 46),
            Thing("butterfly", 74, 23, 32),
            Thing("mushroom", 70, 66, 40),
            Thing("bird", 27, 78, 34),
        ),
        ("cat",),
    ),
    Scene(
        "shapes_plain.png",
        (512, 512),
        ((176, 180, 184),),
        "",
        (
            Thing("red star", 27, 28, 36),
            Thing("blue circle", 73, 27, 32),
            Thing("yellow square", 27, 74, 32),
            Thing("purple triangle", 73, 73, 34),
        ),
        ("green cross",),
    ),
    Scene(
        "shapes_twins.png",
        (640, 480),
        ((122, 128, 136), (158, 162, 166)),
        "",
        (
            Thing("white ring", 18, 27, 34),
            Thing("white ring", 82, 73, 34),
            Thing("orange circle", 50, 27, 30),
            Thing("black cross", 82, 27, 32),
            Thing("green square", 18, 73, 30),
            Thing("orange star", 50, 73, 36),
        ),
    ),
    Scene(
        "shapes_forms.png",  # asked for by form alone
        (600, 500),
        ((204, 198, 188), (182, 176, 168)),
        "",
        (
            Thing("red circle", 22, 28, 32, label="circle"),
            Thing("blue star", 55, 29, 36, label="star"),
            Thing("green triangle", 84, 72, 32, label="triangle"),
            Thing("purple circle", 50, 76, 28, label="circle"),
            Thing("black ring", 19, 74, 32, label="ring"),
        ),
        ("square",),
    ),
    Scene(
        "shapes_reds.png",  # one colour, several forms, and one form in two colours
        (512, 512),
        ((150, 158, 158), (186, 190, 188)),
        "",
        (
            Thing("red triangle", 27, 27, 36),
            Thing("red cross", 73, 27, 34),
            Thing("red ring", 27, 74, 34),
            Thing("blue cross", 73, 74, 34),
        ),
        ("red square",),
    ),
    Scene(
        "party.png",
        (512, 512),
        ((196, 182, 196), (166, 158, 184)),
        "fluent-emoji-flat",
        (
            Thing("gift", 28, 70, 40),
            Thing("heart", 29, 24, 30),
            Thing("yellow star", 74, 25, 34),
            Thing("bell", 74, 73, 34),
        ),
        ("blue star",),
    ),
    Scene(
        "playground.jpg",
        (640, 480),
        ((200, 204, 200), (170, 182, 160)),
        "twemoji",
        (
            Thing("dog", 24, 68, 42),
            Thing("soccer ball", 54, 78, 28),
            Thing("blue circle", 82, 30, 34),
            Thing("red square", 50, 27, 30),
            Thing("orange triangle", 83, 76, 32),
        ),
    ),
)


def main(icons: Path) -> None:
    """Draw every scene into examples/demo."""
    sets = {style: _icon_set(icons, style) for style in STYLES}
    cases = [_draw_scene(scene, sets, seed) for seed, scene in enumerate(SCENES)]
    text = json.dumps(cases, indent=2, ensure_ascii=False)
    (DEMO / "cases.json").write_text(text + "\n", encoding="utf-8")


def _draw_scene(scene: Scene, sets: dict[str, Any], seed: int) -> dict[str, object]:
    grain = GRAIN if scene.file.endswith(".jpg") else 0  # PNG stores grain badly
    picture = _background(scene.wh, scene.ground, grain, seed)
    boxes = []
    for thing in scene.things:
        drawing = _drawing(thing, scene, sets)
        left = round(thing.x / 100 * scene.wh[0] - drawing.width / 2)
        top = round(thing.y / 100 * scene.wh[1] - drawing.height / 2)
        picture.paste(drawing, (left, top), drawing)
        boxes.append(_box(thing, (left, top), drawing.size, scene.wh))
    _save(picture, scene.file)
    labels = scene.labels
    return {"image": scene.file, "prompt": " . ".join(labels), "labels": labels, "boxes": boxes}


def _box(
    thing: Thing, left_top: tuple[int, int], size_wh: tuple[int, int], image_wh: tuple[int, int]
) -> dict[str, object]:
    """One entry of cases.json: percent of the picture."""
    x, y = (100 * a / b for a, b in zip(left_top, image_wh, strict=True))
    width, height = (100 * a / b for a, b in zip(size_wh, image_wh, strict=True))
    inside = min(x, y) >= 0 and max(x + width, y + height) <= 100
    assert inside, f"{thing.name} leaves the picture"
    numbers = {"x": x, "y": y, "width": width, "height": height}
    return {"label": thing.label or thing.name} | {k: round(v, 3) for k, v in numbers.items()}


def _background(
    wh: tuple[int, int], ground: tuple[RGB, ...], grain: float, seed: int
) -> Image.Image:
    """A vertical gradient through the ground's colours, with a little grain."""
    stops = np.array(ground if len(ground) > 1 else ground * 2, dtype=float)
    y = np.linspace(0, len(stops) - 1, wh[1])
    rows = np.stack([np.interp(y, np.arange(len(stops)), stops[:, c]) for c in range(3)], axis=1)
    noise = np.random.default_rng(seed).normal(0, grain, (wh[1], wh[0], 1))
    return Image.fromarray(np.clip(rows[:, None] + noise, 0, 255).astype(np.uint8))


def _drawing(thing: Thing, scene: Scene, sets: dict[str, Any]) -> Drawing:
    colour, _, shape = thing.name.partition(" ")
    if colour in COLOURS:
        image = _shape(COLOURS[colour], shape)
    else:
        image = _icon(sets[scene.style], thing.icon or ICONS.get(thing.name, thing.name))
    if thing.mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image = image.rotate(thing.tilt, Image.Resampling.BICUBIC, expand=True) if thing.tilt else image
    image = _crop(image)
    scale = thing.size / 100 * min(scene.wh) / max(image.size)
    wh = round(image.width * scale), round(image.height * scale)
    return image.resize(wh, Image.Resampling.LANCZOS)


def _shape(colour: RGB, shape: str) -> Drawing:
    mask = Image.new("L", (1024, 1024), 0)
    draw, end = ImageDraw.Draw(mask), 1023
    if shape in ("circle", "ring"):
        draw.ellipse((0, 0, end, end), fill=255)
    else:
        draw.polygon([(x * end, y * end) for x, y in _corners(shape)], fill=255)
    if shape == "ring":
        draw.ellipse((0.26 * end, 0.26 * end, 0.74 * end, 0.74 * end), fill=0)
    image = Image.new("RGBA", mask.size, colour)
    image.putalpha(mask)
    return image


def _corners(shape: str) -> Points:
    """Corners of a shape that fills the unit square."""
    if shape == "square":
        return [(0, 0), (1, 0), (1, 1), (0, 1)]
    if shape == "triangle":
        return [(0.5, 0), (1, 1), (0, 1)]
    if shape == "cross":
        a, b = 1 / 3, 2 / 3
        half = [(a, 0), (b, 0), (b, a), (1, a), (1, b), (b, b)]
        return half + [(1 - x, 1 - y) for x, y in half]
    return list(_star())


def _star() -> Iterator[tuple[float, float]]:
    """Ten corners, stretched to the unit square; top corner first, clockwise."""
    half_width, height = math.cos(math.radians(18)), 1 + math.cos(math.radians(36))
    for i in range(10):
        radius, angle = (0.42 if i % 2 else 1), math.radians(36 * i - 90)
        x, y = radius * math.cos(angle), radius * math.sin(angle)
        yield (x / half_width + 1) / 2, (y + 1) / height


def _icon_set(icons: Path, style: str) -> dict[str, Any]:
    """The set's icons.json: SVG bodies by name."""
    [package] = icons.glob(f"iconify-json-{style}-[0-9]*.tgz")
    with tarfile.open(package) as tar:
        member = tar.extractfile("package/icons.json")
        assert member is not None
        return dict(json.load(member))


def _icon(icon_set: dict[str, Any], name: str) -> Drawing:
    import resvg_py

    while name in icon_set.get("aliases", {}):
        name = icon_set["aliases"][name]["parent"]
    icon = icon_set["icons"][name]
    width, height = (icon.get(k, icon_set.get(k, 16)) for k in ("width", "height"))
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{ICON_PX}" height="{ICON_PX}" '
        f'viewBox="{icon.get("left", 0)} {icon.get("top", 0)} {width} {height}">'
        f"{icon['body']}</svg>"
    )
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg))
    return Image.open(io.BytesIO(png)).convert("RGBA")


def _crop(image: Drawing) -> Drawing:
    """The drawing without its transparent border, so that its box is tight."""
    opaque = image.getchannel("A").point(lambda alpha: 255 if alpha > OPAQUE else 0)
    return image.crop(opaque.getbbox())


def _save(picture: Image.Image, file: str) -> None:
    if file.endswith(".png"):
        picture.save(DEMO / file, optimize=True)
        return
    exif = Image.Exif()
    if file == "flowers.jpg":
        picture = picture.transpose(Image.Transpose.ROTATE_90)
        exif[0x0112] = ROTATED
    picture.save(DEMO / file, quality=92, subsampling=0, optimize=True, exif=exif)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
