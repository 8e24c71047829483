"""`prelabel predict`: sends pictures to a running service and writes the results to files."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from prelabel.cli.exit_status import FAILED, FINISHED, SOME_FAILED, STOPPED
from prelabel.cli.opener import open_result
from prelabel.cli.picture_files import (
    Found,
    PictureFile,
    ResultPaths,
    common_folder,
    find_pictures,
    names_file,
)
from prelabel.cli.predict_pictures import Outcome, Predictor, Request, outcomes
from prelabel.cli.progress import shown
from prelabel.cli.service_client import ServiceClient
from prelabel.cli.service_start import wait_until_up
from prelabel.cli.tables import Column, print_table
from prelabel.cli.terminal import (
    counted,
    open_terminal,
    print_json,
    print_line,
    print_paragraph,
    readable,
)
from prelabel.errors import ImageDecodeError, PromptError
from prelabel.prompts.messages import NOTHING_NAMED
from prelabel.prompts.parser import split_prompt
from prelabel.settings import AppSettings
from prelabel.settings.environment import DesktopEnvironment


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """Options of `prelabel predict`.

    Attributes:
        paths: Pictures and folders.
        prompt: The user's prompt.
        labels: Labels to keep, comma-separated; None for all labels of the prompt.
        output: A folder, or the file of the drawing of one picture; None for files beside the
            pictures.
        json_file: File of the prediction of one picture; `-` to print predictions.
        box_threshold: None for the service's setting.
        text_threshold: None for the service's setting.
        masks: Draw the masks of the boxes, too.
        wait_s: Longest wait for a service that is starting or busy, seconds; 0 for none.
        concurrency: Greatest number of requests at a time.
        opens: Show the result on the desktop.
    """

    paths: Sequence[Path]
    prompt: str
    labels: str | None = None
    output: Path | None = None
    json_file: str | None = None
    box_threshold: float | None = None
    text_threshold: float | None = None
    masks: bool = False
    wait_s: float = 0
    concurrency: int = 4
    opens: bool = False

    @property
    def prints_json(self) -> bool:
        """True if predictions are printed."""
        return self.json_file == "-"

    @property
    def is_single(self) -> bool:
        """True for one picture, whose faults are those of the command."""
        return len(self.paths) == 1 and not self.paths[0].is_dir()

    @property
    def fault(self) -> str | None:
        """Sentence about options that do not go together."""
        if self.is_single:
            return None
        if self.json_file is not None and not self.prints_json:
            return "--json FILE is for one picture. Give --json - to print all predictions."
        if self.output is not None and names_file(self.output):
            return f"--output {self.output} is a picture. Give a folder for several pictures."
        return None


def predict(options: PredictOptions, client: ServiceClient, desktop: DesktopEnvironment) -> int:
    """Predict pictures, write drawings and predictions, and print boxes. Return the exit status.

    Raises:
        PromptError: The prompt names nothing to look for.
        ImageDecodeError: The only picture cannot be read or decoded, or would be overwritten.
        ServiceError: The service gave no prediction.
        OutputFileError: A file cannot be written.
    """
    prompt_labels = _labels_in(options.prompt)
    if not prompt_labels:
        raise PromptError(NOTHING_NAMED)
    kept = _labels_in(options.labels or options.prompt)
    request = Request(
        options.prompt,
        tuple(prompt_labels | kept),
        tuple(kept),
        {"box_threshold": options.box_threshold, "text_threshold": options.text_threshold},
        options.masks,
    )
    json_file = None if options.json_file is None or options.prints_json else options.json_file
    paths = ResultPaths(
        options.output,
        None if json_file is None else Path(json_file),
        prints_json=options.prints_json,
    )
    patience_s = 0 if options.is_single else options.wait_s
    predictor = Predictor(client, request, paths, patience_s)
    console = open_terminal(json_output=options.prints_json)
    if options.is_single:
        return _predict_one(PictureFile(options.paths[0]), options, predictor, console, desktop)
    found = find_pictures(options.paths)
    if options.wait_s and found.pictures:
        _wait_for_service(client, options.wait_s)
    return _predict_all(found, options, predictor, console, desktop)


def _labels_in(prompt: str) -> dict[str, None]:
    """Return the labels of a prompt's phrases in order, as an ordered set, without negatives."""
    phrases = split_prompt(prompt, AppSettings().prompts.max_chars)
    return {phrase.label or phrase.phrase: None for phrase in phrases if not phrase.negative}


def _predict_one(
    picture: PictureFile,
    options: PredictOptions,
    predictor: Predictor,
    console: Console,
    desktop: DesktopEnvironment,
) -> int:
    # Decoded before the request: an unreadable file is reported without a service.
    prepared = predictor.prepare(picture)
    if options.wait_s:
        _wait_for_service(predictor.client, options.wait_s)
    outcome = predictor.predict(prepared)
    if options.prints_json:
        print_json(outcome.facts())
    columns = (
        Column("box"),
        *(Column(edge, is_number=True) for edge in ("left", "top", "right", "bottom")),
    )
    rows = [(box.text, *(f"{edge:.0f}" for edge in box.xyxy)) for box in outcome.boxes]
    print_table(columns, rows, console)
    for note in outcome.notes:
        print_paragraph(note, console)
    masks = sum(box.mask is not None for box in outcome.boxes)
    found = counted(len(outcome.boxes), "box", "boxes")
    found += f", {counted(masks, 'mask', 'masks')}" if options.masks else ""
    files = ", ".join(map(readable, outcome.files))
    print_line(f"{found}: {files}", console)
    _show(outcome.files[0], options, desktop)
    return FINISHED


def _predict_all(
    found: Found,
    options: PredictOptions,
    predictor: Predictor,
    console: Console,
    desktop: DesktopEnvironment,
) -> int:
    errors = open_terminal(json_output=True)
    for path, reason in found.faults:
        print_line(f"{readable(path)}: {reason}", errors)
    if not found.pictures and not found.faults:
        names = ", ".join(map(readable, options.paths))
        raise ImageDecodeError(f"There is no picture in {names}. Check the path.")
    tally = _Tally(len(found.pictures))
    try:
        with _bar(tally, console, options) as observe:
            for outcome in outcomes(predictor, found.pictures, options.concurrency):
                tally.add(outcome)
                _print_outcome(outcome, options, console, errors)
                observe(tally)
    except KeyboardInterrupt:
        done = tally.done + tally.failed
        print_line(f"Stopped: {done} of {tally.total} pictures are done.", errors)
        sys.stdout.flush()
        os._exit(STOPPED)  # without the threads whose requests are open for up to two minutes
    for note in tally.notes:
        print_paragraph(note, console)
    print_line(tally.sentence(), console)
    if found.others:
        left_out = counted(found.others, "file is no picture", "files are no pictures")
        print_line(f"{left_out} by name, and left out.", console)
    if tally.files:
        folder = common_folder(tally.files)
        print_line(f"Drawings and predictions are in {readable(folder)} (*_prelabel.png).", console)
        _show(folder, options, desktop)
    failed = tally.failed + len(found.faults)
    if not failed:
        return FINISHED
    return SOME_FAILED if tally.done else FAILED


def _print_outcome(
    outcome: Outcome, options: PredictOptions, console: Console, errors: Console
) -> None:
    if options.prints_json:
        print_json(outcome.facts())
    if outcome.error is not None:
        print_line(f"{readable(outcome.picture)}: {outcome.error}", errors)
    elif not options.prints_json:
        print_line(f"{readable(outcome.picture)}: {outcome.sentence()}", console)


class _Tally:
    """Counts the outcomes of a run. Implements `progress.Progress`."""

    waiting_for = None

    def __init__(self, total: int) -> None:
        self.total, self.done, self.failed = total, 0, 0
        self.files: list[Path] = []
        self.notes: dict[str, None] = {}
        self._labels = Counter[str]()

    def add(self, outcome: Outcome) -> None:
        """Count an outcome."""
        self.failed += outcome.error is not None
        self.done += outcome.error is None
        self.files += outcome.files[:1]
        self.notes |= dict.fromkeys(outcome.notes)
        self._labels.update(box.label for box in outcome.boxes)

    def sentence(self) -> str:
        """Return what was found in all."""
        boxes = counted(self._labels.total(), "box", "boxes")
        listed = ", ".join(f"{count} {label}" for label, count in self._labels.most_common())
        pictures = counted(self.done, "picture", "pictures")
        return f"{pictures}, {boxes}{f' ({listed})' if listed else ''}, {self.failed} failed."


@contextmanager
def _bar(
    tally: _Tally, console: Console, options: PredictOptions
) -> Iterator[Callable[[_Tally], None]]:
    """Yield a function that shows the progress in a terminal; a log has a line a picture."""
    if options.prints_json or not console.is_terminal:
        yield lambda _: None
        return
    title = counted(tally.total, "picture", "pictures")
    with shown(title, console, json_output=False, unit="pictures") as observe:
        yield observe


def _show(path: Path, options: PredictOptions, desktop: DesktopEnvironment) -> None:
    if options.opens and (fault := open_result(path, desktop)):
        print_line(fault, open_terminal(json_output=True))


def _wait_for_service(client: ServiceClient, timeout_s: float) -> None:
    """Wait for the service, with a seconds counter in a terminal and a single line in a log."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    line = f"Waiting for the service at {escape(client.url)} to start"
    with ExitStack() as stack:
        status: Status | None = None

        def show(waited_s: float) -> None:
            nonlocal status
            if status is None:
                status = stack.enter_context(console.status(line))
                if not console.is_terminal:
                    console.print(f"{line}, for up to {timeout_s:g} s ...")
            status.update(f"{line} ({waited_s:.0f} s) ...")

        wait_until_up(client, timeout_s, show)
