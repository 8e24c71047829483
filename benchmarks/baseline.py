"""groundingdino-py as it is, float32, one picture at a time: what the example backend runs.

A process of its own, so that it keeps the memory allocator's defaults as it has them there. Reads
"height width" from standard input, and answers with the seconds of one forward pass.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.timing import seconds
from prelabel.cards import PROJECT_ROOT


class Baseline:
    """The process, asked for one pass after the other."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def forward_s(self, hw: tuple[int, int]) -> float:
        """Seconds of a pass over one picture of that size."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{hw[0]} {hw[1]}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


@contextmanager
def baseline(weights: Path) -> Iterator[Baseline]:
    """The process with these weights."""
    command = [sys.executable, "-m", "benchmarks.baseline", str(weights)]
    with subprocess.Popen(
        command, cwd=PROJECT_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Baseline(process)
        assert process.stdin is not None
        process.stdin.close()


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
