"""Scenes that training never makes, for measuring checkpoints, and the tables of the measures."""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from training import WORK, backgrounds
from training.icons import Role, Sprites, icon_sets, load_sprites
from training.scenes import Scene, SceneKind, SceneMaker
from training.world import World

SCENES = 500
_SEED = 7_000_000  # of scenes; the seeds of training are small
_SHORTER_SIDES = (96, 640)  # pixels, least and most
_SQUARISH, _WIDE = 4 / 3, 2.0  # longest ratio of width by height, or of height by width


@dataclass(frozen=True, slots=True)
class MeasuredSet:
    """A set of scenes to measure.

    Attributes:
        title: Title of its row in the table.
        kind: The distribution of scenes.
        wide: Pictures of 2:1 or 1:2, instead of up to 4:3 or 3:4.
        styles: The icon sets: those of training, or held-out ones.
    """

    title: str
    kind: SceneKind
    wide: bool = False
    styles: Role = "train"


def measured_sets(world: World) -> dict[str, MeasuredSet]:
    """Return the sets of scenes by name."""
    things = SceneKind(things=1.0, bare_shapes=0.0)
    pairs = SceneKind(things=0.0, bare_shapes=0.0)
    return {
        "seen": MeasuredSet("things, drawing styles seen in training", things),
        "styles": MeasuredSet("things, drawing styles never seen", things, styles="held_out"),
        "pairs": MeasuredSet("coloured shapes, pairs seen in training", pairs),
        "unseen_pairs": MeasuredSet(
            "coloured shapes, pairs never seen",
            replace(pairs, pairs=world.held_out_pairs, distractors=world.seen_pairs),
        ),
        "repeated": MeasuredSet("several of the same thing", replace(things, repeated=1.0)),
        "wide": MeasuredSet("pictures of 2:1 and 1:2", SceneKind(), wide=True),
        "backgrounds": MeasuredSet(
            "backgrounds never seen", SceneKind(backgrounds=backgrounds.HELD_OUT)
        ),
        "absent": MeasuredSet("prompts of nothing that is there", SceneKind(nothing=1.0)),
    }


class Scenes:
    """Makes the scenes of a set, the same ones in each call, with or without masks."""

    def __init__(
        self,
        measured: MeasuredSet,
        world: World,
        sprites: Sprites,
        seed: int = _SEED,
        masks: bool = False,
    ) -> None:
        self._make = SceneMaker(world, sprites, measured.kind, masks=masks)
        self._wide = measured.wide
        self._seed = seed

    def __call__(self, count: int) -> Iterator[Scene]:
        """Yield the first `count` scenes."""
        for number in range(count):
            yield self._make((self._seed, number), self._hw(number))

    def _hw(self, number: int) -> tuple[int, int]:
        rng = random.Random(f"{self._seed} {number}")
        side = math.exp(rng.uniform(*map(math.log, _SHORTER_SIDES)))
        turn = rng.choice((-1, 1)) if self._wide else rng.uniform(-1, 1)
        ratio = (_WIDE if self._wide else _SQUARISH) ** turn
        return round(side * max(1, 1 / ratio)), round(side * max(1, ratio))


def load_scenes(
    measured: MeasuredSet, world: World, work: Path, seed: int = _SEED, masks: bool = False
) -> Scenes:
    """Return the scenes of a set. Drawings are fetched and rendered if `work` lacks them."""
    needed = icon_sets(measured.styles) if measured.kind.things else []
    return Scenes(measured, world, load_sprites(world, work / "icons", needed), seed, masks)


def add_arguments(parser: argparse.ArgumentParser, model: str) -> None:
    """Add the options of a measuring command: what to measure, and on which scenes."""
    parser.add_argument("--model", default=model, help="name of a model, or its card (.yaml)")
    parser.add_argument("--scenes", type=int, default=SCENES, help="scenes of each set")
    parser.add_argument("--sets", nargs="+", help="measure these only: seen, styles, pairs, ...")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the icons")


def chosen(sets: Mapping[str, MeasuredSet], names: Sequence[str] | None) -> Iterator[MeasuredSet]:
    """Yield the sets of these names, or all."""
    return (measured for name, measured in sets.items() if not names or name in names)


def print_table(columns: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> None:
    """Print a table in Markdown: each row, a title and its cells, as soon as it is known."""
    print(f"| scenes | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}", flush=True)
    for title, cells in rows:
        print(f"| {title} | {' | '.join(cells)} |", flush=True)


def figure_cells(figures: Iterable[float]) -> list[str]:
    """Return figures as cells of a table: three digits, "-" for NaN."""
    return ["-" if math.isnan(figure) else f"{figure:.3f}" for figure in figures]
