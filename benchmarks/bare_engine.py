"""The engine in a loop without a service: encoded image in, raw detections out.

The engine runs in a worker process with a detector's environment. A new process is needed for each
measurement, because the passes of one process stay up to a tenth faster or slower than those of
another for as long as it lives.

The worker reads "pictures passes" and answers with the seconds of each pass, as a JSON list.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.measurement import seconds
from benchmarks.models import PHRASES
from benchmarks.payloads import picture
from benchmarks.worker_process import Exchange, worker_process
from deployments.placement import CPU_ENVIRONMENT
from prelabel.checkpoints.cards import load_card, model_folder
from prelabel.engines import load_engine
from prelabel.engines.base import AnyEngine
from prelabel.images.decode import decode_image

MAX_PIXELS = 10**8  # far above every benchmark picture


class BareEngine:
    """Client of the worker process."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def seconds(self, pictures: int = 1, passes: int = 1) -> list[float]:
        """Return the seconds of each pass over a batch of pictures, decoding included."""
        taken: list[float] = json.loads(self._exchange(f"{pictures} {passes}"))
        return taken

    def per_s(self, pictures: int, passes: int) -> float:
        """Return the pictures per second in batches of `pictures`."""
        return pictures * passes / sum(self.seconds(pictures, passes))


@contextmanager
def bare_engine(model: str, wh: tuple[int, int] = (640, 480)) -> Iterator[BareEngine]:
    """Start a worker process for a model and pictures of one size, pixels."""
    size = map(str, wh)
    with worker_process(
        "benchmarks.bare_engine", model, *size, environment=CPU_ENVIRONMENT
    ) as exchange:
        yield BareEngine(exchange)


def _detect(engine: AnyEngine, encoded: bytes, pictures: int) -> None:
    items = []
    for _ in range(pictures):
        image = decode_image(encoded, max_pixels=MAX_PIXELS)
        items += engine.prepare(image, PHRASES)
    engine.detect(items)


def main() -> None:
    """Answer request lines until standard input ends."""
    model, *size = sys.argv[1:]
    width, height = map(int, size)
    card, encoded = load_card(model), picture((width, height))
    engine = load_engine(card, model_folder(card, "models"), device="cpu", precision="auto")
    for line in sys.stdin:
        pictures, passes = map(int, line.split())
        detect = partial(_detect, engine, encoded, pictures)
        print(json.dumps([seconds(detect) for _ in range(passes)]), flush=True)


if __name__ == "__main__":
    main()
