"""The concepts that the demo model learns: things, shapes and colours, and the words for them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import yaml

_FOLDER = Path(__file__).resolve().parent
_PLAIN, _SYNONYM, _PLURAL, _ARTICLE = 0.62, 0.2, 0.13, 0.05  # share of each kind of wording
_ARTICLES = ("a", "the")


@dataclass(frozen=True, slots=True)
class Concept:
    """An object that scenes can show and prompts can name.

    Attributes:
        name: The word in prompts.
        synonyms: Other words for it.
        plural: The plural of the name.
        icons: Names of its drawings in the icon sets; empty for shapes.
        shape: The shape, for shapes and coloured shapes.
        colour: The colour, for coloured shapes.
    """

    name: str
    synonyms: tuple[str, ...] = ()
    plural: str = ""
    icons: tuple[str, ...] = ()
    shape: str = ""
    colour: str = ""

    @property
    def wordings(self) -> tuple[str, ...]:
        """Every wording in prompts, without articles."""
        return tuple(dict.fromkeys((self.name, *self.synonyms, self.plural)))

    def worded(self, rng: random.Random) -> str:
        """Return a random wording, most often the name."""
        synonyms = self.synonyms or (self.name,)
        (kind,) = rng.choices(range(4), (_PLAIN, _SYNONYM, _PLURAL, _ARTICLE))
        match kind:
            case 1:
                return rng.choice(synonyms)
            case 2:
                return self.plural
            case 3:
                return f"{rng.choice(_ARTICLES)} {self.name}"
        return self.name


@dataclass(frozen=True, slots=True)
class World:
    """All concepts: things, shapes of any colour, and pairs of a colour and a shape."""

    things: tuple[Concept, ...]
    shapes: tuple[Concept, ...]
    seen_pairs: tuple[Concept, ...]
    held_out_pairs: tuple[Concept, ...]

    @property
    def concepts(self) -> tuple[Concept, ...]:
        """Every concept that prompts can name."""
        return self.things + self.shapes + self.seen_pairs + self.held_out_pairs

    @property
    def wordings(self) -> list[str]:
        """Every wording of every concept, and the articles."""
        words = [wording for concept in self.concepts for wording in concept.wordings]
        return list(dict.fromkeys([*words, *_ARTICLES]))


@cache
def load_world() -> World:
    """Read world.yaml."""
    spec: dict[str, Any] = yaml.safe_load((_FOLDER / "world.yaml").read_text())
    shapes = {name: entry or {} for name, entry in spec["shapes"].items()}
    pairs = [_pair(colour, name, shapes[name]) for colour, name in product(spec["colours"], shapes)]
    held_out = set(spec["held_out_pairs"])
    return World(
        things=tuple(_thing(name, entry or {}) for name, entry in spec["things"].items()),
        shapes=tuple(
            Concept(
                name, tuple(entry.get("also", ())), entry.get("plural", plural(name)), shape=name
            )
            for name, entry in shapes.items()
        ),
        seen_pairs=tuple(pair for pair in pairs if pair.name not in held_out),
        held_out_pairs=tuple(pair for pair in pairs if pair.name in held_out),
    )


def plural(name: str) -> str:
    """Return the regular plural of an English noun."""
    if name.endswith(("s", "x", "ch", "sh")):
        return name + "es"
    return name + "s"


def _thing(name: str, entry: dict[str, Any]) -> Concept:
    return Concept(
        name=name,
        synonyms=tuple(entry.get("also", ())),
        plural=entry.get("plural", plural(name)),
        icons=tuple(entry.get("icons", [name.replace(" ", "-")])),
    )


def _pair(colour: str, shape: str, entry: dict[str, Any]) -> Concept:
    return Concept(
        name=f"{colour} {shape}",
        synonyms=tuple(f"{colour} {word}" for word in entry.get("also", ())),
        plural=f"{colour} {entry.get('plural', plural(shape))}",
        shape=shape,
        colour=colour,
    )
