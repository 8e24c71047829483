"""Worker processes that answer each line on standard input with one line on standard output."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from prelabel.settings.paths import PROJECT_ROOT

Exchange = Callable[[str], str]  # request line -> response line


@contextmanager
def worker_process(
    module: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[Exchange]:
    """Run a module as a worker process and yield the function that sends it a line.

    That function raises RuntimeError if the process has ended; the process writes the reason to
    standard error.

    Args:
        module: Module to run with `python -m`.
        arguments: Its command-line arguments.
        environment: Variables to add to this process's environment.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=PROJECT_ROOT,
        env=os.environ | (environment or {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def exchange(line: str) -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            print(line, file=process.stdin, flush=True)
            response = process.stdout.readline()
        except BrokenPipeError:
            response = ""
        if not response:
            raise RuntimeError(f"{module} has ended, with status {process.wait()}.")
        return response

    with process:  # closes standard input at the end, which ends the worker
        yield exchange
