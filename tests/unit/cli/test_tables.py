"""Tables in terminals of several widths and in a pipe."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from prelabel.cli.tables import Column, print_table

COLUMNS = (Column("name"), Column("size", is_number=True), Column("title", wraps=True))
ROWS = (
    ("tiny", "9 MB", "A model that is small enough for a laptop, and knows drawings [only]"),
    ("a-much-longer-name", "1.2 GB", "模型 with wide characters"),
)


def printed(width: int, *, terminal: bool = True, rows: tuple[tuple[str, ...], ...] = ROWS) -> str:
    written = io.StringIO()
    console = Console(file=written, width=width, force_terminal=terminal, color_system=None)
    print_table(COLUMNS, rows, console)
    return written.getvalue()


def words(text: str) -> set[str]:
    return set(text.split())


@pytest.mark.parametrize("width", [12, 20, 30, 40, 60, 80, 120, 300])
def test_a_table_fits_every_terminal_and_loses_no_word(width: int) -> None:
    text = printed(width)
    assert max(cell_len(line) for line in text.splitlines()) <= max(width, 18)
    assert "…" not in text
    if width >= 30:
        assert words(" ".join(cell for row in ROWS for cell in row)) <= words(text)


def test_a_wide_terminal_gets_a_line_for_each_row() -> None:
    head, tiny, longer = printed(120).splitlines()
    assert head.split() == ["name", "size", "title"]
    assert tiny.index("9 MB") + 4 == longer.index("1.2 GB") + 6  # numbers end in one column
    assert tiny.endswith("[only]")


def test_a_narrower_one_wraps_the_last_column_or_shows_it_below() -> None:
    assert [line[:26].strip() for line in printed(70).splitlines()][2] == ""
    below = printed(45).splitlines()
    assert below[2].split() == ["tiny", "9", "MB"]
    assert below[3].startswith("    A model")


def test_the_narrowest_one_gets_a_line_for_each_value() -> None:
    lines = printed(22).splitlines()
    assert lines[:2] == ["tiny", "  size   9 MB"]


def test_a_pipe_gets_whole_rows_without_escapes() -> None:
    text = printed(20, terminal=False)
    assert len(text.splitlines()) == 3
    assert "\x1b" not in text
    assert ROWS[0][2] in text


def test_a_cell_stays_on_its_line() -> None:
    text = printed(120, rows=(("a\nb", "1", "two\r\n\twords"),))
    assert text.splitlines()[1].split() == ["a", "b", "1", "two", "words"]
