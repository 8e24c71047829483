"""The engines on a CPU, beside groundingdino-py as it is."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.baseline import Baseline, baseline
from benchmarks.models import PHRASES, write_full_size
from benchmarks.timing import in_turns, medians, seconds
from prelabel.cards import load_card, model_folder
from prelabel.engines import load_engine
from prelabel.engines.base import AnyEngine
from training.evaluate import WORK, agreement, load_scenes, measured_sets
from training.world import load_world

_SIZES = {"640x640": (640, 640, 5), "800x1333": (800, 1333, 3)}
_PRECISIONS = ("float32", "bfloat16")
_SCENES = 500


def engine_figures(folder: Path) -> Iterator[tuple[str, float]]:
    """Speed-ups of Swin-T over groundingdino-py, and how often the results of the demo differ."""
    cards = {name: write_full_size(folder, *edges[:2]) for name, edges in _SIZES.items()}
    with baseline(folder / "random.pth") as plain:
        for name, (height, width, rounds) in _SIZES.items():
            found = _times(plain, cards[name], (height, width), rounds)
            for precision in _PRECISIONS:
                ratio = found["groundingdino-py"] / found[precision]
                yield f"cpu_engine_speedup_{name}_{precision}", ratio
            yield f"groundingdino_py_{name}_s", found["groundingdino-py"]
    yield "cpu_engine_scenes_differing", _scenes_differing()


def _times(plain: Baseline, card: Path, hw: tuple[int, int], rounds: int) -> dict[str, float]:
    picture = np.random.default_rng(0).integers(0, 256, (*hw, 3), dtype=np.uint8)
    works = {"groundingdino-py": partial(plain.forward_s, hw)}
    for precision in _PRECISIONS:
        engine = _load(str(card), precision)
        items = engine.prepare(picture, PHRASES)
        assert items[0].bucket == hw
        works[precision] = partial(seconds, partial(engine.detect, items))
    return medians(in_turns(works, rounds))


def _load(name: str, precision: str, engine: str | None = None) -> AnyEngine:
    card = load_card(name)
    if engine is not None:
        card = card.model_copy(update={"engine": engine})
    return load_engine(card, model_folder(card, "models"), device="cpu", precision=precision)


def _scenes_differing() -> int:
    """Of the demo's scenes: other labels, or a box further off than half a pixel, than what
    groundingdino-py's modules find in PyTorch's float64, which none of our kernels computes.
    """
    world = load_world()
    scenes = load_scenes(measured_sets(world)["seen"], world, WORK)(_SCENES)
    exact = _load("demo", "float64", "groundingdino")
    return agreement(exact, _load("demo", "auto"), scenes).differing
