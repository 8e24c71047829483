"""Backgrounds of scenes: plain colours, gradients, textures and soft, photo-like blurs.

All colours are muted, so that objects stand out. Each background is a function of a random number
generator and a height and width in pixels; it returns float32 [H, W, 3] in 0..255.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from prelabel.types import Floats

Background = Callable[[np.random.Generator, tuple[int, int]], Floats]


def _muted(rng: np.random.Generator) -> Floats:
    colour = rng.uniform(50, 225, 3)
    muted: Floats = (colour * 0.4 + colour.mean() * 0.6).astype(np.float32)
    return muted


def _mixed(a: Floats, b: Floats, share_of_b: Floats) -> Floats:
    share = share_of_b[..., None]
    return np.asarray(a * (1 - share) + b * share, dtype=np.float32)


def _ramp(rng: np.random.Generator, hw: tuple[int, int]) -> Floats:
    """Return a slope from 0 to 1 in a random direction, float32 [H, W]."""
    y, x = np.mgrid[0 : hw[0], 0 : hw[1]].astype(np.float32)
    angle = rng.uniform(0, 2 * math.pi)
    slope = (x / hw[1] - 0.5) * math.cos(angle) + (y / hw[0] - 0.5) * math.sin(angle)
    return np.asarray(np.clip(slope + 0.5, 0, 1))


def _value_noise(rng: np.random.Generator, hw: tuple[int, int], cells: int) -> Floats:
    """Return smooth noise with about `cells` bumps along a side, float32 [H, W] in 0..1."""
    grid = (rng.random((cells, cells)) * 255).astype(np.uint8)
    smooth = Image.fromarray(grid).resize((hw[1], hw[0]), Image.Resampling.BICUBIC)
    return np.asarray(smooth, dtype=np.float32) / 255


def plain(rng: np.random.Generator, hw: tuple[int, int]) -> Floats:
    """Paint one colour."""
    return np.broadcast_to(_muted(rng), (*hw, 3)).copy()


def gradient(rng: np.random.Generator, hw: tuple[int, int]) -> Floats:
    """Paint a transition between two colours."""
    return _mixed(_muted(rng), _muted(rng), _ramp(rng, hw))


def grain(rng: np.random.Generator, hw: tuple[int, int]) -> Floats:
    """Paint paper, sand or felt: a gradient with noise in each pixel."""
    return gradient(rng, hw) + rng.normal(0, rng.uniform(3, 16), (*hw, 1)).astype(np.float32)


def clouds(rng: np.random.Generator, hw: tuple[int, int]) -> Floats:
    """Paint smooth blotches of several scales, as in a picture out of focus."""
    picture = gradient(rng, hw)
    for cells in (3, 6, 12, 24):
        picture = _mixed(picture, _muted(rng), _value_noise(rng, hw, cells) * rng.uniform(0, 0.6))
    return picture


def bokeh(rng: np.random.Generator, hw: tuple[int, int]) -> Floats:
    """Paint blurred ellipses and bars, which look like distant objects."""
    picture = Image.fromarray(clouds(rng, hw).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(3, 14))):
        w, h = rng.uniform(0.05, 0.5, 2) * min(hw)
        x, y = rng.uniform(0, hw[1]), rng.uniform(0, hw[0])
        colour = tuple(int(c) for c in _muted(rng))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x - w / 2, y - h / 2, x + w / 2, y + h / 2), fill=colour)
    blurred = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.01, 0.06) * min(hw)))
    return np.asarray(blurred, dtype=np.float32)


def stripes(rng: np.random.Generator, hw: tuple[int, int]) -> Floats:
    """Paint striped cloth."""
    wave = np.sin(_ramp(rng, hw) * rng.uniform(20, 90))
    return _mixed(_muted(rng), _muted(rng), (wave > 0).astype(np.float32))


def tiles(rng: np.random.Generator, hw: tuple[int, int]) -> Floats:
    """Paint a tiled floor with joints."""
    side = max(6, round(rng.uniform(0.08, 0.25) * min(hw)))
    y, x = np.mgrid[0 : hw[0], 0 : hw[1]]
    picture = _mixed(_muted(rng), _muted(rng), ((y // side + x // side) % 2).astype(np.float32))
    picture[(y % side == 0) | (x % side == 0)] = _muted(rng)
    return picture


def hills(rng: np.random.Generator, hw: tuple[int, int]) -> Floats:
    """Paint sky and three ranges of hills, the nearer the darker."""
    picture = _mixed(
        np.array([150, 185, 220]),
        np.array([215, 220, 225]),
        np.mgrid[0 : hw[0], 0 : hw[1]][0] / hw[0],
    )
    x = np.arange(hw[1]) / hw[1]
    ground = _muted(rng)
    for i in range(3):
        phase, waves = rng.uniform(0, 6.3), rng.uniform(3, 10)
        height = (0.45 + 0.16 * i + 0.06 * np.sin(phase + waves * x)) * hw[0]
        below = np.arange(hw[0])[:, None] > height[None]
        picture[below] = ground * (1 - 0.18 * i)
    return picture


def patchwork(rng: np.random.Generator, hw: tuple[int, int]) -> Floats:
    """Paint fields of colour around random points."""
    count = int(rng.integers(5, 15))
    centres = rng.random((count, 2)) * hw
    y, x = np.mgrid[0 : hw[0], 0 : hw[1]]
    distance = (y[..., None] - centres[:, 0]) ** 2 + (x[..., None] - centres[:, 1]) ** 2
    colours = np.stack([_muted(rng) for _ in range(count)])
    return np.asarray(colours[distance.argmin(-1)])


def dots(rng: np.random.Generator, hw: tuple[int, int]) -> Floats:
    """Paint dotted cloth."""
    step = rng.uniform(0.06, 0.2) * min(hw)
    radius = step * rng.uniform(0.15, 0.4)
    y, x = np.mgrid[0 : hw[0], 0 : hw[1]].astype(np.float32)
    x = x + (y // step % 2) * step / 2
    distance = np.hypot(x % step - step / 2, y % step - step / 2)
    return _mixed(_muted(rng), _muted(rng), np.clip(radius - distance + 0.5, 0, 1))


def ruled(rng: np.random.Generator, hw: tuple[int, int]) -> Floats:
    """Paint thin lines in one or two directions, as on paper or a fence."""
    picture = gradient(rng, hw)
    angle, step = rng.uniform(0, math.pi), rng.uniform(0.05, 0.2) * min(hw)
    width = rng.uniform(0.6, 2.5)
    y, x = np.mgrid[0 : hw[0], 0 : hw[1]].astype(np.float32)
    for turn in (0, math.pi / 2)[: int(rng.integers(1, 3))]:
        along = (x * math.cos(angle + turn) + y * math.sin(angle + turn)) % step
        picture = _mixed(picture, _muted(rng), np.clip(width - along, 0, 1))
    return picture


def shards(rng: np.random.Generator, hw: tuple[int, int]) -> Floats:
    """Paint many overlapping sharp polygons and ellipses: leaves, gravel, a heap of papers."""
    picture = Image.fromarray(clouds(rng, hw).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    longest = rng.uniform(0.05, 0.5) * min(hw)
    for _ in range(int(rng.integers(8, 60))):
        x, y = rng.uniform(0, hw[1]), rng.uniform(0, hw[0])
        colour = tuple(int(c) for c in _muted(rng))
        if rng.random() < 0.4:
            w, h = rng.uniform(0.2, 1, 2) * longest / 2
            draw.ellipse((x - w, y - h, x + w, y + h), fill=colour)
        else:
            angles = np.sort(rng.uniform(0, 2 * math.pi, int(rng.integers(3, 7))))
            radii = rng.uniform(0.3, 1, len(angles)) * longest / 2
            corners = np.stack((x + radii * np.cos(angles), y + radii * np.sin(angles)), 1)
            draw.polygon([tuple(corner) for corner in corners.tolist()], fill=colour)
    return np.asarray(picture, dtype=np.float32)


def scribbles(rng: np.random.Generator, hw: tuple[int, int]) -> Floats:
    """Paint winding strokes: grass, cables, handwriting."""
    picture = Image.fromarray(gradient(rng, hw).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(4, 30))):
        turns = rng.normal(0, 0.5, 20).cumsum() + rng.uniform(0, 2 * math.pi)
        step = rng.uniform(0.01, 0.06) * min(hw)
        x = rng.uniform(0, hw[1]) + (np.cos(turns) * step).cumsum()
        y = rng.uniform(0, hw[0]) + (np.sin(turns) * step).cumsum()
        points = [(float(a), float(b)) for a, b in zip(x, y, strict=True)]
        draw.line(points, fill=tuple(int(c) for c in _muted(rng)), width=int(rng.integers(1, 5)))
    return np.asarray(picture, dtype=np.float32)


def marble(rng: np.random.Generator, hw: tuple[int, int]) -> Floats:
    """Paint bent bands with soft or hard edges: wood, marble, water, dunes."""
    bend = _value_noise(rng, hw, int(rng.integers(3, 9))) * rng.uniform(2, 9)
    wave = np.sin(_ramp(rng, hw) * rng.uniform(8, 60) + bend)
    share = np.clip(wave * math.exp(rng.uniform(0, 3)) / 2 + 0.5, 0, 1)
    return _mixed(gradient(rng, hw), gradient(rng, hw), share)


# HELD_OUT is for measuring only: no training scene has these. The detector was trained on TRAINED;
# the segmenter, which must find the edges of unknown objects, on MORE as well.
TRAINED: tuple[Background, ...] = (plain, gradient, grain, clouds, bokeh)
MORE: tuple[Background, ...] = (dots, ruled, shards, scribbles, marble)
HELD_OUT: tuple[Background, ...] = (stripes, tiles, hills, patchwork)
