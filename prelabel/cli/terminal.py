"""Output of the commands: consoles, lines and JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from prelabel.cli.exit_status import OUTPUT_CLOSED


class Terminal(Console):
    """A console that ends the command silently when the reader of its output has ended."""

    def on_broken_pipe(self) -> NoReturn:
        """Exit with the status of a closed output."""
        self.quiet = True
        end_for_closed_output()


def open_terminal(*, json_output: bool = False) -> Terminal:
    """Return the console for people: the standard output, or the standard error beside JSON."""
    return Terminal(stderr=json_output, highlight=False)


def print_line(line: str, console: Console, style: str | None = None) -> None:
    """Print a line as it is: no colours of numbers, no markup, no breaks."""
    console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)


def print_paragraph(text: str, console: Console) -> None:
    """Print a sentence, broken between words in a terminal, else on one line."""
    console.print(text, highlight=False, markup=False, soft_wrap=not console.is_terminal)


def counted(count: int, one: str, many: str) -> str:
    """Return a number with its noun, in the singular for 1."""
    return f"{count} {one if count == 1 else many}"


def readable(path: Path) -> str:
    """Return a path as text that can be printed, even if its bytes are not UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def print_json(value: Mapping[str, object]) -> None:
    """Print a line of JSON for a program."""
    try:
        sys.stdout.write(json.dumps(value) + "\n")
    except BrokenPipeError:
        end_for_closed_output()


def end_for_closed_output() -> NoReturn:
    """Exit, and let the interpreter not write the rest of the output to the closed pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(OUTPUT_CLOSED)
