"""groundingdino-py as it is, float32, one picture at a time: what the example backend runs.

A process of its own, so that it keeps the memory allocator's defaults as it has them there. Reads
"height width" from standard input, and answers with the seconds of one forward pass.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.asking import answering
from benchmarks.timing import seconds


@contextmanager
def baseline(weights: Path) -> Iterator[Callable[[tuple[int, int]], float]]:
    """With these weights: the seconds of a pass over one picture of a height and width."""
    with answering("benchmarks.baseline", str(weights)) as ask:
        yield lambda hw: float(ask(f"{hw[0]} {hw[1]}"))


def main() -> None:
    """Answer until the input ends."""
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
