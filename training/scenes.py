"""Synthetic scenes, made on the fly: a picture, a prompt, and the boxes that belong to it."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from prelabel.types import Floats, ImageRGB, Ints
from training import backgrounds
from training.icons import Drawing, Sprites, opaque_box
from training.world import Concept, World

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
MIN_SIZE, MAX_SIZE = 0.08, 0.7  # longer side of an object, of the picture's shorter side
_LARGEST = (0.7, 0.62, 0.54, 0.48, 0.43, 0.39, 0.36, 0.34)  # by number of objects, so that they fit
_OVERLAP = 0.3  # of the smaller of two objects, at most
_PLACING_TRIES = 25
_FEW = 3  # concepts of a scene that repeats them
_ANYTHING = 30  # absent concepts to choose from
_COLOUR_JITTER = 18
_MIN_CONTRAST = 60  # between a shape and what lies under it, Euclidean in RGB
_SMOOTHING = 2  # shapes are drawn this much larger, then reduced
_INK_SETS = ("fluent-emoji-high-contrast",)  # drawn in one colour: any


@dataclass(frozen=True, slots=True)
class Scene:
    """image: uint8 [H, W, 3]; phrases: the prompt; boxes: float32 [N, 4], xyxy in pixels;
    labels: int64 [N], which phrase each box belongs to.

    Objects whose name is not among the phrases have no box here.
    """

    image: ImageRGB
    phrases: tuple[str, ...]
    boxes: Floats
    labels: Ints


@dataclass(frozen=True, slots=True)
class SceneKind:
    """What scenes look like and how they are asked about.

    things: share of objects that are things, the others are coloured shapes; shapes_only: share of
    scenes that hold no things, and ask for more pairs at once; repeated: share of scenes that hold
    a few concepts, several times each; bare_shapes: share of scenes that name shapes without
    colours; pairs: of the coloured shapes, by default those of training; lures: pairs that are
    asked for beside them, but never drawn; objects, phrases: how many, at least and at most; kept:
    share of the things there that the prompt names; nothing: share of prompts that name nothing
    that is there; strangers: share of prompts with words that the model does not know; distorted:
    whether drawings change in colour, outline and proportions, and pictures in sharpness; synonyms:
    whether prompts say "cats" and "kitten"; least_px: what is smaller than this cannot be
    recognised, and is drawn larger.
    """

    things: float = 0.8
    shapes_only: float = 0.0
    repeated: float = 0.0
    bare_shapes: float = 0.15
    pairs: tuple[Concept, ...] = ()
    lures: tuple[Concept, ...] = ()
    objects: tuple[int, int] = (1, 8)
    phrases: tuple[int, int] = (1, 30)
    kept: float = 1.0
    nothing: float = 0.0
    strangers: float = 0.0
    distorted: bool = False
    synonyms: bool = True
    least_px: int = 0
    backgrounds: tuple[backgrounds.Background, ...] = backgrounds.TRAINED


class SceneMaker:
    """Makes scenes of one kind; the seed decides everything about a scene but its size.

    strangers: words that the model is not to know.
    """

    def __init__(
        self, world: World, sprites: Sprites, kind: SceneKind, strangers: Sequence[str] = ()
    ) -> None:
        self._world = world
        self._kind = kind if kind.pairs else replace(kind, pairs=world.seen_pairs)
        self._nameable = self._kind.pairs + self._kind.lures
        self._sprites = sprites.drawings
        self._things = [thing for thing in world.things if thing.name in sprites.drawings]
        self._strangers = strangers

    def __call__(self, seed: Sequence[int], hw: tuple[int, int]) -> Scene:
        """A picture of that height and width in pixels."""
        painter = _Painter(seed, hw, self._kind, self._sprites)
        bare = painter.chance.random() < self._kind.bare_shapes
        things = self._kind.things
        if self._kind.shapes_only and painter.chance.random() < self._kind.shapes_only:
            things = 0.0
        first, last = self._kind.objects
        count = painter.chance.randint(first, last)
        repeated = self._kind.repeated and painter.chance.random() < self._kind.repeated
        most = painter.chance.randint(1, _FEW) if repeated else count
        concepts: list[Concept] = []
        for _ in range(count):
            if len(concepts) < most:
                thing = painter.chance.random() < things
                concepts.append(painter.chance.choice(self._things if thing else self._kind.pairs))
                painter.add(concepts[-1], count)
            else:
                painter.add(painter.chance.choice(concepts), count)
        drawn = [self._bare(concept) if bare else concept for concept in painter.concepts]
        asked = self._asked(painter.chance, drawn, bare, things)
        place = {concept: index for index, concept in enumerate(asked)}
        named = [i for i, concept in enumerate(drawn) if concept in place]
        return Scene(
            image=painter.finished(),
            phrases=self._phrases(painter.chance, asked),
            boxes=np.array([painter.boxes[i] for i in named], np.float32).reshape(-1, 4),
            labels=np.array([place[drawn[i]] for i in named], np.int64),
        )

    def _bare(self, concept: Concept) -> Concept:
        if not concept.shape:
            return concept
        return next(shape for shape in self._world.shapes if shape.shape == concept.shape)

    def _asked(
        self, chance: random.Random, drawn: Sequence[Concept], bare: bool, things: float
    ) -> list[Concept]:
        """The concepts of the prompt, each once, in any order."""
        there = list(dict.fromkeys(drawn))
        if chance.random() < self._kind.nothing:
            asked = []
        else:
            asked = [c for c in there if chance.random() < self._kind.kept] or there[:1]
        room = self._room(chance, len(asked))
        absent = [c for c in self._absent(chance, drawn, bare, things) if c not in there]
        asked += list(dict.fromkeys(absent))[:room]
        chance.shuffle(asked)
        return asked

    def _room(self, chance: random.Random, taken: int) -> int:
        """How many absent concepts are asked for. Short and long prompts are equally likely."""
        shortest, longest = self._kind.phrases
        low = max(shortest, taken)
        if low >= longest:
            return max(0, longest - taken)
        return round(math.exp(chance.uniform(math.log(low), math.log(longest + 0.49)))) - taken

    def _absent(
        self, chance: random.Random, drawn: Sequence[Concept], bare: bool, things: float
    ) -> list[Concept]:
        """Concepts to ask for in vain: look-alikes of the shapes first, then anything."""
        if bare:
            shapes = self._world.shapes
            return chance.sample(shapes, len(shapes)) + _some(chance, self._things, _ANYTHING)
        look_alikes = [
            pair
            for pair in self._nameable
            for shape in drawn
            if shape.shape and (pair.colour == shape.colour) != (pair.shape == shape.shape)
        ]
        chance.shuffle(look_alikes)
        pairs = round(_ANYTHING * (1 - things))
        anything = _some(chance, self._things, _ANYTHING) + _some(chance, self._nameable, pairs)
        chance.shuffle(anything)
        return look_alikes[: chance.randint(0, 12)] + anything

    def _phrases(self, chance: random.Random, asked: Sequence[Concept]) -> tuple[str, ...]:
        phrases = [c.worded(chance) if self._kind.synonyms else c.name for c in asked]
        if self._strangers and chance.random() < self._kind.strangers:
            # At the end, so that labels keep their numbers; the model sees no order of phrases.
            phrases += chance.sample(self._strangers, chance.randint(1, 3))
        return tuple(phrases)


class _Painter:
    """One picture in the making."""

    def __init__(
        self,
        seed: Sequence[int],
        hw: tuple[int, int],
        kind: SceneKind,
        sprites: dict[str, dict[str, list[Drawing]]],
    ) -> None:
        self.chance = random.Random(repr(tuple(seed)))
        self._rng = np.random.default_rng(list(seed))
        self._kind = kind
        self._sprites = sprites
        ground = self.chance.choice(kind.backgrounds)(self._rng, hw)
        self._picture = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
        self.boxes: list[tuple[int, int, int, int]] = []
        self.concepts: list[Concept] = []

    def add(self, concept: Concept, count: int) -> None:
        """Draw it where there is room, `count` objects being wanted; or not at all."""
        width, height = self._picture.size
        largest = _LARGEST[min(count, len(_LARGEST)) - 1]
        shorter = min(width, height)
        least = max(MIN_SIZE * shorter, self._kind.least_px)
        side = self.chance.uniform(least, largest * shorter)
        drawing = self._shape(concept, side) if concept.shape else self._thing(concept, side)
        w, h = drawing.size
        for _ in range(_PLACING_TRIES):
            x, y = self.chance.randint(0, width - w), self.chance.randint(0, height - h)
            box = (x, y, x + w, y + h)
            if all(_covered(box, other) <= _OVERLAP for other in self.boxes):
                break
        else:
            return
        if concept.shape and self._contrast(drawing, box) < _MIN_CONTRAST:
            return
        self._picture.paste(drawing, (x, y), drawing)
        self.boxes.append(box)
        self.concepts.append(concept)

    def finished(self) -> ImageRGB:
        """The picture, uint8 [H, W, 3]."""
        picture, chance = self._picture, self.chance
        if self._kind.distorted and chance.random() < 0.15:
            picture = picture.filter(ImageFilter.GaussianBlur(chance.uniform(0.3, 0.9)))
        if self._kind.distorted and chance.random() < 0.15:
            file = io.BytesIO()
            picture.save(file, "JPEG", quality=chance.randint(40, 90))
            picture = Image.open(file)
        return np.asarray(picture)

    def _contrast(self, drawing: Image.Image, box: tuple[int, int, int, int]) -> float:
        under = np.asarray(self._picture.crop(box).resize((1, 1), Image.Resampling.BOX))
        colour = np.asarray(drawing.resize((1, 1), Image.Resampling.BOX))[0, 0, :3]
        return float(np.linalg.norm(under[0, 0].astype(float) - colour))

    def _shape(self, concept: Concept, side: float) -> Image.Image:
        stretch = self.chance.uniform(0.85, 1.18)
        w, h = _wh(side, stretch)
        mask = shape_mask(concept.shape, (w * _SMOOTHING, h * _SMOOTHING))
        if concept.shape == "triangle" and self.chance.random() < 0.15:
            mask = mask.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        jitter = (self.chance.uniform(-_COLOUR_JITTER, _COLOUR_JITTER) for _ in range(3))
        colour = tuple(
            round(min(255, max(0, channel + by)))
            for channel, by in zip(RGB[concept.colour], jitter, strict=True)
        )
        drawing = Image.new("RGBA", (w, h), (*colour, 255))
        drawing.putalpha(mask.resize((w, h), Image.Resampling.BOX))
        return drawing

    def _thing(self, concept: Concept, side: float) -> Image.Image:
        chance = self.chance
        by_set = self._sprites[concept.name]
        set_name = chance.choice(list(by_set))
        drawing = Image.fromarray(chance.choice(by_set[set_name]))
        if chance.random() < 0.5:
            drawing = drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if chance.random() < 0.4:
            drawing = _tilted(drawing, chance.uniform(-25, 25), side)
        stretch = drawing.height / drawing.width
        if self._kind.distorted and chance.random() < 0.4:
            stretch *= chance.uniform(0.8, 1.25)
        drawing = drawing.resize(_wh(side, stretch), Image.Resampling.BILINEAR, reducing_gap=2.0)
        if set_name in _INK_SETS:
            drawing = self._inked(drawing)
        elif self._kind.distorted and chance.random() < 0.7:
            drawing = self._recoloured(drawing)
        if self._kind.distorted and chance.random() < 0.2:
            drawing = _outlined(drawing, chance.randint(0, 60))
        return drawing

    def _inked(self, drawing: Image.Image) -> Image.Image:
        ink = (
            self._rng.integers(0, 90, 3)
            if self.chance.random() < 0.7
            else self._rng.integers(0, 255, 3)
        )
        solid = Image.new("RGBA", drawing.size, (*(int(c) for c in ink), 255))
        solid.putalpha(drawing.getchannel("A"))
        return solid

    def _recoloured(self, drawing: Image.Image) -> Image.Image:
        """As another artist might have coloured it."""
        pixels = np.asarray(drawing).astype(np.float32)
        colours, kind = pixels[..., :3], self.chance.random()
        if kind < 0.2:  # channels mixed
            share = self.chance.uniform(0.3, 0.9)
            mixed = np.eye(3) * share + np.eye(3)[self._rng.permutation(3)] * (1 - share)
            colours = colours @ mixed.astype(np.float32)
        elif kind < 0.35:  # paler
            share = self.chance.uniform(0.4, 1)
            colours = colours * (1 - share) + colours.mean(-1, keepdims=True) * share
        elif kind < 0.42:  # in shades of one colour
            tint = self._rng.uniform(30, 255, (1, 1, 3)).astype(np.float32)
            colours = np.clip(colours.mean(-1, keepdims=True) / 255 * 1.3, 0, 1) * tint
        gain = self._rng.uniform(0.85, 1.12, (1, 1, 3)).astype(np.float32)
        contrast, offset = self.chance.uniform(0.7, 1.25), self.chance.uniform(-20, 20)
        colours = ((colours - 128) * contrast + 128) * gain + offset
        pixels[..., :3] = colours.clip(0, 255)
        return Image.fromarray(pixels.astype(np.uint8), "RGBA")


def shape_mask(shape: str, size: tuple[int, int]) -> Image.Image:
    """The shape in white on black, filling a picture of that width and height."""
    mask = Image.new("L", size, 0)
    _draw_shape(ImageDraw.Draw(mask), shape, size[0] - 1, size[1] - 1)
    return mask


def _some(chance: random.Random, concepts: Sequence[Concept], count: int) -> list[Concept]:
    return chance.sample(concepts, min(count, len(concepts)))


def _wh(side: float, stretch: float) -> tuple[int, int]:
    """Width and height with that longer side and that height by width."""
    w, h = (side, side * stretch) if stretch <= 1 else (side / stretch, side)
    return max(4, round(w)), max(4, round(h))


def _covered(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Share of the smaller box that lies in the other."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0
    return w * h / min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))


def _tilted(drawing: Image.Image, degrees: float, side: float) -> Image.Image:
    """Rotated and cropped again; reduced first to about twice what is needed."""
    drawing = drawing.copy()
    drawing.thumbnail((round(side * 2), round(side * 2)), Image.Resampling.BILINEAR)
    turned = drawing.rotate(degrees, Image.Resampling.BILINEAR, expand=True)
    box = opaque_box(turned)
    return turned.crop(box) if box else drawing


def _outlined(drawing: Image.Image, shade: int) -> Image.Image:
    """With a dark line around it, inside its box."""
    alpha = drawing.getchannel("A")
    outlined = Image.new("RGBA", drawing.size, (shade, shade, shade, 255))
    outlined.putalpha(alpha)
    outlined.paste(drawing, (0, 0), alpha.filter(ImageFilter.MinFilter(3)))
    return outlined


def _draw_shape(draw: ImageDraw.ImageDraw, shape: str, right: float, bottom: float) -> None:
    """The shape in white, from (0, 0) to (right, bottom)."""
    box = (0, 0, right, bottom)
    match shape:
        case "circle":
            draw.ellipse(box, fill=255)
        case "square":
            draw.rectangle(box, fill=255)
        case "ring":
            draw.ellipse(box, fill=255)
            inner = 0.26
            draw.ellipse(
                (right * inner, bottom * inner, right * (1 - inner), bottom * (1 - inner)), fill=0
            )
        case "triangle":
            draw.polygon([(right / 2, 0), (right, bottom), (0, bottom)], fill=255)
        case "cross":
            x, y = right / 3, bottom / 3
            draw.rectangle((x, 0, 2 * x, bottom), fill=255)
            draw.rectangle((0, y, right, 2 * y), fill=255)
        case "star":
            radii = [1 if i % 2 == 0 else 0.42 for i in range(10)]
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
