"""The engine in a loop, without a service: bytes in, raw detections out.

A process of its own, with a detector's environment: a process keeps a pass up to a tenth faster or
slower than another's for as long as it lives. Reads "pictures passes" from standard input: so many
copies of the picture at a time, so many times; answers with the seconds of each pass, as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.asking import Ask, answering
from benchmarks.bodies import picture
from benchmarks.models import PHRASES
from benchmarks.timing import seconds
from deployments.placement import CPU_ENVIRONMENT
from prelabel.checkpoints.cards import load_card, model_folder
from prelabel.engines import load_engine
from prelabel.engines.base import AnyEngine
from prelabel.images.decode import decode_image

MOST_PIXELS = 10**8


class BareEngine:
    """The process, asked for passes."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def seconds(self, pictures: int = 1, passes: int = 1) -> list[float]:
        """Of each pass over so many pictures, with their decoding."""
        taken: list[float] = json.loads(self._ask(f"{pictures} {passes}"))
        return taken

    def per_s(self, pictures: int, passes: int) -> float:
        """Pictures per second, of so many at a time."""
        return pictures * passes / sum(self.seconds(pictures, passes))


@contextmanager
def bare_engine(model: str, wh: tuple[int, int] = (640, 480)) -> Iterator[BareEngine]:
    """Of that model, for a picture of that size."""
    size = map(str, wh)
    with answering("benchmarks.bare", model, *size, environment=CPU_ENVIRONMENT) as ask:
        yield BareEngine(ask)


def _look(engine: AnyEngine, encoded: bytes, pictures: int) -> None:
    items = []
    for _ in range(pictures):
        image = decode_image(encoded, max_pixels=MOST_PIXELS)
        items += engine.prepare(image, PHRASES)
    engine.detect(items)


def main() -> None:
    """Answer until the input ends."""
    model, *size = sys.argv[1:]
    width, height = map(int, size)
    card, encoded = load_card(model), picture((width, height))
    engine = load_engine(card, model_folder(card, "models"), device="cpu", precision="auto")
    for line in sys.stdin:
        pictures, passes = map(int, line.split())
        look = partial(_look, engine, encoded, pictures)
        print(json.dumps([seconds(look) for _ in range(passes)]), flush=True)


if __name__ == "__main__":
    main()
