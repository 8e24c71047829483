"""`prelabel models` and `prelabel download`: the checkpoints that this project knows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from prelabel.checkpoints.cards import (
    Card,
    SegmenterCard,
    check_installed,
    list_cards,
    list_segmenter_cards,
    load_any_card,
    model_folder,
)
from prelabel.checkpoints.download import Observe, download
from prelabel.cli.progress import WIDE
from prelabel.cli.tables import Column, print_table
from prelabel.cli.terminal import open_terminal, print_json, print_line
from prelabel.errors import ModelError
from prelabel.settings.paths import resolve_path

_LINE_EVERY_S = 10.0


def show_models(models_dir: Path, console: Console, *, json_output: bool) -> None:
    """Print all detectors and segmenters, and which of them are installed."""
    detectors, segmenters = list_cards(), list_segmenter_cards()
    if json_output:
        print_json(
            {
                "models_dir": str(resolve_path(models_dir)),
                "detectors": [_facts(card, models_dir) for card in detectors],
                "segmenters": [_facts(card, models_dir) for card in segmenters],
            }
        )
        return
    _print(["detector", "installed"], detectors, models_dir, console)
    print_line("", console)
    _print(["segmenter", "installed"], segmenters, models_dir, console)
    print_line("", console)
    print_line("prelabel download NAME installs one.", console)


def _facts(card: Card, models_dir: Path) -> dict[str, object]:
    folder = model_folder(card, models_dir)
    return {
        "name": card.name,
        "title": card.title,
        "engine": card.engine,
        "source": card.source,
        "licence": card.licence,
        "bytes": _bytes(card),
        "installed": _is_installed(card, folder),
        "folder": str(folder),
    }


def _print(first: Sequence[str], cards: Sequence[Card], models_dir: Path, console: Console) -> None:
    name, installed = first
    columns = (
        Column(name),
        Column(installed),
        Column("size", is_number=True),
        Column("licence"),
        Column("model", wraps=True),
    )
    rows = []
    for card in cards:
        is_installed = _is_installed(card, model_folder(card, models_dir))
        size = _bytes(card)
        rows.append(
            (
                card.name,
                "yes" if is_installed else "no",
                "" if size is None else decimal(size),
                card.licence,
                card.title,
            )
        )
    print_table(columns, rows, console)


def _bytes(card: Card) -> int | None:
    """Return the size of all files, or else of the weights; None if neither is on record."""
    sizes = [file.size for file in card.files if file.size is not None]
    if len(sizes) == len(card.files):
        return sum(sizes)
    weights_mb = card.published.weights_mb if card.published else None
    return None if weights_mb is None else round(weights_mb * 1e6)


def _is_installed(card: Card, folder: Path) -> bool:
    try:
        check_installed(card, folder)
    except ModelError:
        return False
    return True


def download_model(name: str, models_dir: Path, console: Console, *, json_output: bool) -> None:
    """Download a model with progress, and print how to use it.

    Raises ModelError if the model is unknown or cannot be downloaded.
    """
    card = load_any_card(name)
    with _observed(open_terminal(json_output=True)) as observe:
        folder = download(card, models_dir, observe=observe)
    key = "segmenter" if isinstance(card, SegmenterCard) else "name"
    if json_output:
        print_json({"name": name, "folder": str(folder), "setting": {"model": {key: name}}})
        return
    print_line(
        f"{name} is in {folder}. In serve_config.yaml, under args, set `model: {{{key}: {name}}}`.",
        console,
    )


@contextmanager
def _observed(console: Console) -> Iterator[Observe]:
    """Yield a function that shows the files as they arrive: bars, or lines outside a terminal."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    name = TextColumn("{task.description}", markup=False)
    columns: tuple[ProgressColumn, ...] = (name, DownloadColumn())
    if console.width >= WIDE:
        rest = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        columns = (name, *rest)
    with Progress(*columns, console=console) as bars:
        tasks = {}

        def observe(file: str, here: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = bars.add_task(file, total=total, completed=here)
            bars.update(tasks[file], completed=here)

        yield observe


class _Lines:
    """Shows a download as lines, for a log: the beginning and the end of a file, and some."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._file: str | None = None
        self._shown_at = 0.0

    def __call__(self, file: str, here: int, total: int | None) -> None:
        now = time.monotonic()
        if file == self._file and here != total and now - self._shown_at < _LINE_EVERY_S:
            return
        self._file, self._shown_at = file, now
        of = "" if total is None else f" of {decimal(total)}"
        print_line(f"{file}: {decimal(here)}{of}", self._console)
