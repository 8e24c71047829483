"""Shows the progress of a long run: a bar in a terminal, else a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from prelabel.cli.terminal import print_line

_LINE_EVERY_S = 10.0
WIDE = 70  # columns of a terminal that has room for bars


class Progress(Protocol):
    """State of a run.

    Attributes:
        total: Number of items of this run, as far as it is known.
        done: Items that are done.
        failed: Items that failed.
        waiting_for: Sentence about a fault that the run waits out; None while it works.
    """

    @property
    def total(self) -> int: ...  # noqa: D102

    @property
    def done(self) -> int: ...  # noqa: D102

    @property
    def failed(self) -> int: ...  # noqa: D102

    @property
    def waiting_for(self) -> str | None: ...  # noqa: D102


@contextmanager
def shown(
    title: str,
    console: Console,
    *,
    json_output: bool,
    unit: str = "tasks",
    detail: Callable[[], str] = lambda: "",
) -> Iterator[Callable[[Progress], None]]:
    """Yield a function that shows the progress.

    Args:
        title: Line above the progress.
        console: The terminal, or where its output went.
        json_output: Show nothing: the output is for a program.
        unit: The items of the run, in the plural.
        detail: Returns a few words to show with the progress, such as the number of replicas.
    """
    if json_output:
        yield lambda _: None
        return
    print_line(title, console)
    if console.is_terminal:
        with _bars(console, unit, detail) as observe:
            yield observe
    else:
        yield _Lines(console, detail)


@dataclass(frozen=True, slots=True)
class Count:
    """State of a work whose items do not fail. Implements `Progress`."""

    total: int
    done: int
    failed: int = 0
    waiting_for: str | None = None


@contextmanager
def _bars(
    console: Console, unit: str, detail: Callable[[], str]
) -> Iterator[Callable[[Progress], None]]:
    figures = "{task.fields[failed]} failed  {task.fields[rate]}/s"
    columns: tuple[ProgressColumn, ...] = (MofNCompleteColumn(), TextColumn(figures))
    if console.width >= WIDE:
        text = TextColumn(figures + "{task.fields[detail]}")
        columns = (BarColumn(), MofNCompleteColumn(), text, TimeRemainingColumn())
    with Bars(*columns, console=console) as bars:
        started_at = time.monotonic()
        bar = bars.add_task(unit, total=None, failed=0, rate="-", detail="")
        said: str | None = None

        def observe(progress: Progress) -> None:
            nonlocal said
            ended = progress.done + progress.failed
            bars.update(
                bar,
                total=max(progress.total, ended),
                completed=ended,
                failed=progress.failed,
                rate=_rate(progress, started_at),
                detail=_after_comma(detail()),
            )
            if progress.waiting_for != said and progress.waiting_for:
                print_line(f"Waiting: {progress.waiting_for}", bars.console)
            said = progress.waiting_for

        yield observe


class _Lines:
    """Shows the progress as lines, for a log."""

    def __init__(self, console: Console, detail: Callable[[], str]) -> None:
        self._console, self._detail = console, detail
        self._started_at, self._shown_at = time.monotonic(), time.monotonic()
        self._said: str | None = None

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        is_new = progress.waiting_for not in (None, self._said)
        self._said = progress.waiting_for
        if not is_new and now - self._shown_at < _LINE_EVERY_S:
            return
        self._shown_at = now
        line = (
            f"{progress.done} of {progress.total} done, {progress.failed} failed, "
            f"{_rate(progress, self._started_at)}/s{_after_comma(self._detail())}."
        )
        if progress.waiting_for:
            line += f" Waiting: {progress.waiting_for}"
        print_line(line, self._console)


def _rate(progress: Progress, started_at: float) -> str:
    return f"{progress.done / max(time.monotonic() - started_at, 1e-3):.1f}"


def _after_comma(detail: str) -> str:
    return f", {detail}" if detail else ""


@contextmanager
def step_shown(verb: str, console: Console) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows the current step of a short work, in a terminal only.

    Args:
        verb: Stands before each step, as in "Measuring".
        console: Receives the steps. Not the one that results go to.
    """
    with console.status(f"{verb} ...") as status:
        yield lambda step: status.update(f"{verb} {escape(step)} ...")
