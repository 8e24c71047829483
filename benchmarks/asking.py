"""Processes of their own that are asked by a line and answer by one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from prelabel.settings.paths import PROJECT_ROOT

Ask = Callable[[str], str]


@contextmanager
def answering(
    module: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[Ask]:
    """A module that runs until its input ends, with these variables beside those here. What is
    asked raises RuntimeError if the process is gone; its own words are on standard error.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=PROJECT_ROOT,
        env=os.environ | (environment or {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def ask(line: str) -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            print(line, file=process.stdin, flush=True)
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(f"{module} has ended, with status {process.wait()}.")
        return answer

    with process:  # its input ends with the block
        yield ask
