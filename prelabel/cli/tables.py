"""Tables that fit the terminal, and that programs can read in a pipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

_GAP: Final = "  "
_LEAST_ROOM: Final = 28  # of a column that wraps, beside the others; with less it goes below them
_INDENT: Final = "    "


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        title: Its heading.
        is_number: Aligned to the right.
        wraps: Its text may be broken into lines. At most one column of a table, the last one.
    """

    title: str
    is_number: bool = False
    wraps: bool = False


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], console: Console) -> None:
    """Print a table in the widest of four forms that fits the console.

    In order: each row on one line; with a last column that wraps; with that column below the
    others; each value on a line of its own. No text is cut. Outside of a terminal each row is one
    line, however long.

    Args:
        columns: The columns.
        rows: The texts of each row.
        console: Its width decides about the form.
    """
    texts = [[" ".join(cell.split()) for cell in row] for row in rows]
    for line in _lines(columns, texts, console):
        line.rstrip()
        console.print(line, soft_wrap=True, highlight=False)


def _lines(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], console: Console
) -> Iterator[Text]:
    titles = [column.title for column in columns]
    widths = [max(map(cell_len, cells)) for cells in zip(titles, *rows, strict=True)]
    room = console.width if console.is_terminal else None
    if room is None or _total(widths) <= room:
        yield from _grid(columns, widths, [titles, *rows])
        return
    if not columns[-1].wraps:
        yield from _stacked(titles, rows, room, console)
        return
    fixed = _total(widths[:-1])
    left = room - fixed - len(_GAP)
    if left >= _LEAST_ROOM:
        yield from _beside(columns, [*widths[:-1], left], [titles, *rows], console)
    elif fixed <= room:
        yield from _below(columns, widths[:-1], [titles, *rows], room, console)
    else:
        yield from _stacked(titles, rows, room, console)


def _grid(
    columns: Sequence[Column], widths: Sequence[int], rows: Sequence[Sequence[str]]
) -> Iterator[Text]:
    for index, row in enumerate(rows):
        yield _row(columns, widths, row, "bold" if index == 0 else "")


def _row(columns: Sequence[Column], widths: Sequence[int], row: Sequence[str], style: str) -> Text:
    cells = []
    for column, width, cell in zip(columns, widths, row, strict=True):
        padding = " " * (width - cell_len(cell))
        cells.append(padding + cell if column.is_number else cell + padding)
    return Text(_GAP.join(cells).rstrip(), style=style)


def _beside(
    columns: Sequence[Column],
    widths: Sequence[int],
    rows: Sequence[Sequence[str]],
    console: Console,
) -> Iterator[Text]:
    for index, row in enumerate(rows):
        for number, part in enumerate(_broken(row[-1], widths[-1], console)):
            cells = [*row[:-1], part] if number == 0 else [*[""] * (len(row) - 1), part]
            yield _row(columns, widths, cells, "bold" if index == 0 else "")


def _below(
    columns: Sequence[Column],
    widths: Sequence[int],
    rows: Sequence[Sequence[str]],
    room: int,
    console: Console,
) -> Iterator[Text]:
    for index, row in enumerate(rows):
        yield _row(columns[:-1], widths, row[:-1], "bold" if index == 0 else "")
        for part in _broken(row[-1], room - len(_INDENT), console):
            yield Text(_INDENT + part, style="bold" if index == 0 else "dim")


def _stacked(
    titles: Sequence[str], rows: Sequence[Sequence[str]], room: int, console: Console
) -> Iterator[Text]:
    width = max(map(cell_len, titles[1:]), default=0)
    for row in rows:
        for part in _broken(row[0], room, console):
            yield Text(part, style="bold")
        for title, cell in zip(titles[1:], row[1:], strict=True):
            start = _GAP + title + " " * (width - cell_len(title)) + _GAP
            for part in _broken(cell, max(room - len(start), 1), console):
                yield Text(start + part)
                start = " " * cell_len(start)


def _broken(text: str, width: int, console: Console) -> list[str]:
    """Return the lines of a text, broken between words where possible; at least one."""
    return [line.plain.rstrip() for line in Text(text).wrap(console, width)] or [""]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)
