"""Synthetic scenes, made on the fly: a picture, a prompt, and the boxes of its phrases.

A scene has two random number generators with the same seed: Python's for choices and positions,
NumPy's for pixels.
"""

from __future__ import annotations

import io
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageFilter

from prelabel.types import Floats, ImageRGB, Ints, Masks
from training import backgrounds
from training.icons import Drawing, Sprites, opaque_box
from training.shapes import RGB, shape_mask
from training.world import Concept, World

MIN_SIZE, MAX_SIZE = 0.08, 0.7  # an object's longer side by the picture's shorter side
# The largest size by the number of objects, so that all of them find a place.
_MAX_SIZES = (0.7, 0.62, 0.54, 0.48, 0.43, 0.39, 0.36, 0.34)
_MAX_OVERLAP = 0.3  # share of the smaller of two objects that the other may cover
_PLACING_TRIES = 25
_MAX_REPEATED_CONCEPTS = 3  # different concepts in a scene that repeats them
_ABSENT_CHOICES = 30  # absent concepts to choose from
_MAX_LOOK_ALIKES = 12
_COLOUR_JITTER = 18  # of each RGB channel, 0..255, in both directions
_MIN_CONTRAST = 60  # between a shape and the background under it, Euclidean in RGB
_SMOOTHING = 2  # factor by which shapes are drawn larger, then reduced
_OPAQUE = 128  # alpha from which a pixel belongs to the mask: half covered
_INK_SETS = ("fluent-emoji-high-contrast",)  # one-coloured drawings, which get a random colour


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture with its prompt and the boxes of the phrases.

    Objects whose name is not among the phrases have no box.

    Attributes:
        image: uint8 [H, W, 3].
        phrases: The prompt.
        boxes: float32 [N, 4], xyxy in pixels.
        labels: int64 [N], the index of each box's phrase.
        masks: bool [N, H, W], the visible pixels of each box's object; empty unless asked for.
    """

    image: ImageRGB
    phrases: tuple[str, ...]
    boxes: Floats
    labels: Ints
    masks: Masks


@dataclass(frozen=True, slots=True)
class SceneKind:
    """The distribution of scenes and their prompts.

    Attributes:
        things: Share of things among the objects; the others are coloured shapes.
        shapes_only: Share of scenes without things, whose prompts name more pairs.
        repeated: Share of scenes with a few concepts that occur several times each.
        bare_shapes: Share of scenes whose prompts name shapes without colours.
        pairs: The coloured shapes; empty for those of training.
        distractors: Pairs that prompts name in addition, but that are never drawn.
        objects: Least and most objects of a scene.
        phrases: Least and most phrases of a prompt.
        named: Share of a scene's concepts that the prompt names.
        nothing: Share of prompts that name nothing in the scene.
        unknown_words: Share of prompts with words that the model does not know.
        distorted: Vary colour, outline and proportions of drawings, and sharpness of pictures.
        synonyms: Prompts use plurals and synonyms such as "cats" and "kitten".
        least_px: Least longer side of an object in pixels: smaller ones cannot be recognised.
        backgrounds: The backgrounds to choose from.
    """

    things: float = 0.8
    shapes_only: float = 0.0
    repeated: float = 0.0
    bare_shapes: float = 0.15
    pairs: tuple[Concept, ...] = ()
    distractors: tuple[Concept, ...] = ()
    objects: tuple[int, int] = (1, 8)
    phrases: tuple[int, int] = (1, 30)
    named: float = 1.0
    nothing: float = 0.0
    unknown_words: float = 0.0
    distorted: bool = False
    synonyms: bool = True
    least_px: int = 0
    backgrounds: tuple[backgrounds.Background, ...] = backgrounds.TRAINED


class SceneMaker:
    """Makes scenes of one kind. The seed decides everything but the size of the picture.

    Args:
        world: All concepts.
        sprites: The drawings of things.
        kind: The distribution of scenes.
        unknown_words: Words that the model should learn to ignore.
        masks: Return the mask of each box, too.
    """

    def __init__(
        self,
        world: World,
        sprites: Sprites,
        kind: SceneKind,
        unknown_words: Sequence[str] = (),
        masks: bool = False,
    ) -> None:
        self._world = world
        self._with_masks = masks
        self._kind = kind if kind.pairs else replace(kind, pairs=world.seen_pairs)
        self._nameable = self._kind.pairs + self._kind.distractors
        self._sprites = sprites.drawings
        self._things = [thing for thing in world.things if thing.name in sprites.drawings]
        self._unknown_words = unknown_words

    def __call__(self, seed: Sequence[int], hw: tuple[int, int]) -> Scene:
        """Make the scene of a seed, with a picture of height and width `hw` in pixels."""
        painter = _Painter(seed, hw, self._kind, self._sprites)
        bare = painter.rng.random() < self._kind.bare_shapes
        things = self._kind.things
        if self._kind.shapes_only and painter.rng.random() < self._kind.shapes_only:
            things = 0.0
        first, last = self._kind.objects
        count = painter.rng.randint(first, last)
        repeated = self._kind.repeated and painter.rng.random() < self._kind.repeated
        max_concepts = painter.rng.randint(1, _MAX_REPEATED_CONCEPTS) if repeated else count
        concepts: list[Concept] = []
        for _ in range(count):
            if len(concepts) < max_concepts:
                thing = painter.rng.random() < things
                concepts.append(painter.rng.choice(self._things if thing else self._kind.pairs))
                painter.add(concepts[-1], count)
            else:
                painter.add(painter.rng.choice(concepts), count)
        drawn = [self._bare(concept) if bare else concept for concept in painter.concepts]
        prompted = self._prompted(painter.rng, drawn, bare, things)
        phrase_of = {concept: index for index, concept in enumerate(prompted)}
        named = [i for i, concept in enumerate(drawn) if concept in phrase_of]
        return Scene(
            image=painter.finished(),
            phrases=self._phrases(painter.rng, prompted),
            boxes=np.array([painter.boxes[i] for i in named], np.float32).reshape(-1, 4),
            labels=np.array([phrase_of[drawn[i]] for i in named], np.int64),
            masks=painter.masks()[named] if self._with_masks else np.zeros((0, *hw), bool),
        )

    def _bare(self, concept: Concept) -> Concept:
        if not concept.shape:
            return concept
        return next(shape for shape in self._world.shapes if shape.shape == concept.shape)

    def _prompted(
        self, rng: random.Random, drawn: Sequence[Concept], bare: bool, things: float
    ) -> list[Concept]:
        """Return the concepts of the prompt, each once, in random order."""
        present = list(dict.fromkeys(drawn))
        if rng.random() < self._kind.nothing:
            prompted = []
        else:
            prompted = [c for c in present if rng.random() < self._kind.named] or present[:1]
        absent_count = self._absent_count(rng, len(prompted))
        absent = [c for c in self._absent(rng, drawn, bare, things) if c not in present]
        prompted += list(dict.fromkeys(absent))[:absent_count]
        rng.shuffle(prompted)
        return prompted

    def _absent_count(self, rng: random.Random, taken: int) -> int:
        """Return the number of absent concepts in a prompt that names `taken` present ones.

        The logarithm of the prompt's length is uniform, so that short prompts are frequent as well.
        """
        shortest, longest = self._kind.phrases
        low = max(shortest, taken)
        if low >= longest:
            return max(0, longest - taken)
        return round(math.exp(rng.uniform(math.log(low), math.log(longest + 0.49)))) - taken

    def _absent(
        self, rng: random.Random, drawn: Sequence[Concept], bare: bool, things: float
    ) -> list[Concept]:
        """Return concepts for the absent phrases: look-alikes of the shapes first, then others."""
        if bare:
            shapes = self._world.shapes
            return rng.sample(shapes, len(shapes)) + _some(rng, self._things, _ABSENT_CHOICES)
        look_alikes = [
            pair
            for pair in self._nameable
            for shape in drawn
            if shape.shape and (pair.colour == shape.colour) != (pair.shape == shape.shape)
        ]
        rng.shuffle(look_alikes)
        pairs = round(_ABSENT_CHOICES * (1 - things))
        others = _some(rng, self._things, _ABSENT_CHOICES) + _some(rng, self._nameable, pairs)
        rng.shuffle(others)
        return look_alikes[: rng.randint(0, _MAX_LOOK_ALIKES)] + others

    def _phrases(self, rng: random.Random, prompted: Sequence[Concept]) -> tuple[str, ...]:
        phrases = [c.worded(rng) if self._kind.synonyms else c.name for c in prompted]
        if self._unknown_words and rng.random() < self._kind.unknown_words:
            # At the end, so that labels stay valid. The model does not see the order of phrases.
            phrases += rng.sample(self._unknown_words, rng.randint(1, 3))
        return tuple(phrases)


class _Painter:
    """Paints the objects of one scene onto a background, and records their boxes."""

    def __init__(
        self,
        seed: Sequence[int],
        hw: tuple[int, int],
        kind: SceneKind,
        sprites: dict[str, dict[str, list[Drawing]]],
    ) -> None:
        self.rng = random.Random(repr(tuple(seed)))
        self._np_rng = np.random.default_rng(list(seed))
        self._kind = kind
        self._sprites = sprites
        ground = self.rng.choice(kind.backgrounds)(self._np_rng, hw)
        self._picture = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
        self.boxes: list[tuple[int, int, int, int]] = []
        self.concepts: list[Concept] = []
        self._alphas: list[Image.Image] = []

    def add(self, concept: Concept, count: int) -> None:
        """Draw an object at a free place, one of `count`; skip it if no place is found."""
        width, height = self._picture.size
        largest = _MAX_SIZES[min(count, len(_MAX_SIZES)) - 1]
        shorter = min(width, height)
        least_px = max(MIN_SIZE * shorter, self._kind.least_px)
        side = self.rng.uniform(least_px, largest * shorter)
        drawing = self._shape(concept, side) if concept.shape else self._thing(concept, side)
        w, h = drawing.size
        for _ in range(_PLACING_TRIES):
            x, y = self.rng.randint(0, width - w), self.rng.randint(0, height - h)
            box = (x, y, x + w, y + h)
            if all(_covered(box, other) <= _MAX_OVERLAP for other in self.boxes):
                break
        else:
            return
        if concept.shape and self._contrast(drawing, box) < _MIN_CONTRAST:
            return
        self._picture.paste(drawing, (x, y), drawing)
        self.boxes.append(box)
        self.concepts.append(concept)
        self._alphas.append(drawing.getchannel("A"))

    def masks(self) -> Masks:
        """Return the visible pixels of each object, bool [N, H, W]; later objects cover earlier."""
        width, height = self._picture.size
        masks = np.zeros((len(self.boxes), height, width), bool)
        covered = np.zeros((height, width), bool)
        for mask, (x0, y0, x1, y1), alpha in zip(
            masks[::-1], self.boxes[::-1], self._alphas[::-1], strict=True
        ):
            mask[y0:y1, x0:x1] = np.asarray(alpha) >= _OPAQUE
            mask &= ~covered
            covered |= mask
        return masks

    def finished(self) -> ImageRGB:
        """Return the picture, uint8 [H, W, 3]."""
        picture, rng = self._picture, self.rng
        if self._kind.distorted and rng.random() < 0.15:
            picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.9)))
        if self._kind.distorted and rng.random() < 0.15:
            file = io.BytesIO()
            picture.save(file, "JPEG", quality=rng.randint(40, 90))
            picture = Image.open(file)
        return np.asarray(picture)

    def _contrast(self, drawing: Image.Image, box: tuple[int, int, int, int]) -> float:
        background = np.asarray(self._picture.crop(box).resize((1, 1), Image.Resampling.BOX))
        colour = np.asarray(drawing.resize((1, 1), Image.Resampling.BOX))[0, 0, :3]
        return float(np.linalg.norm(background[0, 0].astype(float) - colour))

    def _shape(self, concept: Concept, side: float) -> Image.Image:
        stretch = self.rng.uniform(0.85, 1.18)
        w, h = _wh(side, stretch)
        mask = shape_mask(concept.shape, (w * _SMOOTHING, h * _SMOOTHING))
        if concept.shape == "triangle" and self.rng.random() < 0.15:
            mask = mask.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        jitter = (self.rng.uniform(-_COLOUR_JITTER, _COLOUR_JITTER) for _ in range(3))
        colour = tuple(
            round(min(255, max(0, channel + by)))
            for channel, by in zip(RGB[concept.colour], jitter, strict=True)
        )
        drawing = Image.new("RGBA", (w, h), (*colour, 255))
        drawing.putalpha(mask.resize((w, h), Image.Resampling.BOX))
        return drawing

    def _thing(self, concept: Concept, side: float) -> Image.Image:
        rng = self.rng
        by_set = self._sprites[concept.name]
        set_name = rng.choice(list(by_set))
        drawing = Image.fromarray(rng.choice(by_set[set_name]))
        if rng.random() < 0.5:
            drawing = drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if rng.random() < 0.4:
            drawing = _tilted(drawing, rng.uniform(-25, 25), side)
        stretch = drawing.height / drawing.width
        if self._kind.distorted and rng.random() < 0.4:
            stretch *= rng.uniform(0.8, 1.25)
        drawing = drawing.resize(_wh(side, stretch), Image.Resampling.BILINEAR, reducing_gap=2.0)
        if set_name in _INK_SETS:
            drawing = self._inked(drawing)
        elif self._kind.distorted and rng.random() < 0.7:
            drawing = self._recoloured(drawing)
        if self._kind.distorted and rng.random() < 0.2:
            drawing = _outlined(drawing, rng.randint(0, 60))
        return drawing

    def _inked(self, drawing: Image.Image) -> Image.Image:
        ink = (
            self._np_rng.integers(0, 90, 3)
            if self.rng.random() < 0.7
            else self._np_rng.integers(0, 255, 3)
        )
        solid = Image.new("RGBA", drawing.size, (*(int(c) for c in ink), 255))
        solid.putalpha(drawing.getchannel("A"))
        return solid

    def _recoloured(self, drawing: Image.Image) -> Image.Image:
        """Change the colours of a drawing, as if it came from another icon set."""
        pixels = np.asarray(drawing).astype(np.float32)
        colours, kind = pixels[..., :3], self.rng.random()
        if kind < 0.2:  # channels mixed
            share = self.rng.uniform(0.3, 0.9)
            mixed = np.eye(3) * share + np.eye(3)[self._np_rng.permutation(3)] * (1 - share)
            colours = colours @ mixed.astype(np.float32)
        elif kind < 0.35:  # paler
            share = self.rng.uniform(0.4, 1)
            colours = colours * (1 - share) + colours.mean(-1, keepdims=True) * share
        elif kind < 0.42:  # in shades of one colour
            tint = self._np_rng.uniform(30, 255, (1, 1, 3)).astype(np.float32)
            colours = np.clip(colours.mean(-1, keepdims=True) / 255 * 1.3, 0, 1) * tint
        gain = self._np_rng.uniform(0.85, 1.12, (1, 1, 3)).astype(np.float32)
        contrast, offset = self.rng.uniform(0.7, 1.25), self.rng.uniform(-20, 20)
        colours = ((colours - 128) * contrast + 128) * gain + offset
        pixels[..., :3] = colours.clip(0, 255)
        return Image.fromarray(pixels.astype(np.uint8), "RGBA")


def _some(rng: random.Random, concepts: Sequence[Concept], count: int) -> list[Concept]:
    return rng.sample(concepts, min(count, len(concepts)))


def _wh(side: float, stretch: float) -> tuple[int, int]:
    """Return width and height for a longer side and a ratio of height by width."""
    w, h = (side, side * stretch) if stretch <= 1 else (side / stretch, side)
    return max(4, round(w)), max(4, round(h))


def _covered(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Return the share of the smaller box that the other one covers."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0
    return w * h / min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))


def _tilted(drawing: Image.Image, degrees: float, side: float) -> Image.Image:
    """Rotate and crop a drawing, reduced first to about twice the needed size."""
    drawing = drawing.copy()
    drawing.thumbnail((round(side * 2), round(side * 2)), Image.Resampling.BILINEAR)
    turned = drawing.rotate(degrees, Image.Resampling.BILINEAR, expand=True)
    box = opaque_box(turned)
    return turned.crop(box) if box else drawing


def _outlined(drawing: Image.Image, shade: int) -> Image.Image:
    """Draw a dark line around a drawing, inside its box."""
    alpha = drawing.getchannel("A")
    outlined = Image.new("RGBA", drawing.size, (shade, shade, shade, 255))
    outlined.putalpha(alpha)
    outlined.paste(drawing, (0, 0), alpha.filter(ImageFilter.MinFilter(3)))
    return outlined
