"""The baseline: groundingdino-py unchanged, float32, one picture at a time.

Label Studio's `grounding_dino` example backend runs the model in this way. It runs in a worker
process, so that it keeps the default settings of the memory allocator, as that backend does.

The worker reads "height width" and answers with the seconds of one forward pass.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.measurement import seconds
from benchmarks.worker_process import worker_process


@contextmanager
def baseline(weights: Path) -> Iterator[Callable[[tuple[int, int]], float]]:
    """Start the baseline with weights; yield a function from a picture's height and width to the
    seconds of a pass.
    """
    with worker_process("benchmarks.baseline", str(weights)) as exchange:
        yield lambda hw: float(exchange(f"{hw[0]} {hw[1]}"))


def main() -> None:
    """Answer request lines until standard input ends."""
    warnings.simplefilter("ignore")
    import torch

    from benchmarks.models import PHRASES, library_model

    model = library_model()
    model.load_state_dict(torch.load(sys.argv[1], weights_only=True)["model"])
    caption = " . ".join(PHRASES) + " ."
    with torch.inference_mode():
        for line in sys.stdin:
            height, width = map(int, line.split())
            forward = partial(model, torch.randn(1, 3, height, width), captions=[caption])
            print(seconds(forward), flush=True)


if __name__ == "__main__":
    main()
