"""The pictures of `prelabel predict`, and the files that their results go to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from prelabel.errors import ImageDecodeError
from prelabel.offline.folders import SUFFIXES, is_picture

_MARK: Final = "_prelabel"


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A picture that was named, or found in a folder.

    Attributes:
        path: The file.
        below: Its folder, relative to the folder that was named.
    """

    path: Path
    below: Path = Path()


@dataclass(frozen=True, slots=True)
class Found:
    """The pictures of a run.

    Attributes:
        pictures: In the order of the arguments, those of a folder by their paths.
        faults: The arguments and folders that cannot be read, with the reasons.
        others: Number of files in folders that are no pictures by their names.
    """

    pictures: list[PictureFile] = field(default_factory=list)
    faults: list[tuple[Path, str]] = field(default_factory=list)
    others: int = 0


def find_pictures(paths: Iterable[Path]) -> Found:
    """Return the named pictures, and those in the named folders and below them.

    Hidden files are left out, and drawings that an earlier run has written beside the pictures.
    """
    pictures: list[PictureFile] = []
    faults: list[tuple[Path, str]] = []
    others = 0
    seen: set[Path] = set()
    for path in paths:
        if path.is_dir():
            found, unreadable = _in_folder(path)
        else:
            found, unreadable = [PictureFile(path)], []
        faults += unreadable
        for picture in found:
            if path.is_dir() and not is_picture(picture.path.name):
                others += not picture.path.name.startswith(".") and not _is_result(picture.path)
            elif (real := picture.path.resolve()) not in seen:
                seen.add(real)
                pictures.append(picture)
    return Found(pictures, faults, others)


def _in_folder(folder: Path) -> tuple[list[PictureFile], list[tuple[Path, str]]]:
    """Return all files below a folder but earlier drawings, and the folders that are unreadable."""
    unreadable: list[tuple[Path, str]] = []

    def note(error: OSError) -> None:
        reason = f"The folder cannot be read ({error.strerror}). Allow it, and try again."
        unreadable.append((Path(error.filename), reason))

    files: list[PictureFile] = []
    for here, folders, names in os.walk(folder, onerror=note):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = Path(here).relative_to(folder)
        files += [PictureFile(Path(here, name), below) for name in sorted(names)]
    return [file for file in files if not (_is_result(file.path) and _is_drawing(file))], unreadable


def _is_result(path: Path) -> bool:
    return path.stem.endswith(_MARK) and path.suffix.lower() in (".png", ".json")


def _is_drawing(file: PictureFile) -> bool:
    return file.path.suffix.lower() == ".png"


@dataclass(frozen=True, slots=True)
class Results:
    """The files of a picture's results; json: None if the prediction is printed."""

    drawing: Path
    json: Path | None


class ResultPaths:
    """Chooses a file for each result, none twice.

    Args:
        output: A folder; a file for the drawing of a single picture; None for files beside the
            pictures.
        json_file: File of the prediction of a single picture; None for a file beside the drawing
            or, if `output` is a file, beside the picture.
        prints_json: Write no predictions to files.
    """

    def __init__(
        self, output: Path | None, json_file: Path | None = None, *, prints_json: bool = False
    ) -> None:
        self._output, self._json_file, self._prints = output, json_file, prints_json
        self._used: set[Path] = set()

    def of(self, picture: PictureFile) -> Results:
        """Return the files of a picture's results.

        Raises ImageDecodeError if one of them is the picture itself.
        """
        if self._output is not None and names_file(self._output):
            stem = picture.path.with_name(picture.path.stem + _MARK)
            drawing = self._output
        else:
            folder = picture.path.parent
            if self._output is not None:
                folder = self._output / picture.below
            stem = self._unused(folder, picture.path)
            drawing = Path(f"{stem}.png")
        json = None if self._prints else self._json_file or Path(f"{stem}.json")
        if picture.path.resolve() in {each.resolve() for each in (drawing, json) if each}:
            raise ImageDecodeError(
                "The output would overwrite the picture. Choose another --output."
            )
        return Results(drawing, json)

    def _unused(self, folder: Path, picture: Path) -> Path:
        for name in _names(picture):
            stem = folder / f"{name}{_MARK}"
            if stem not in self._used:
                self._used.add(stem)
                return stem
        raise AssertionError("the names never end")


def _names(picture: Path) -> Iterator[str]:
    """Yield names of a picture's results. `a.jpg` and `a.png` of a folder need two."""
    yield picture.stem
    yield picture.name
    number = 2
    while True:
        yield f"{picture.stem}_{number}"
        number += 1


def names_file(output: Path) -> bool:
    """Return True if --output is a file for one drawing, by the form of its name."""
    return output.suffix.lower() in SUFFIXES and not output.is_dir()


def common_folder(paths: Sequence[Path]) -> Path:
    """Return the folder that all files are in or below."""
    return Path(os.path.commonpath([path.resolve().parent for path in paths]))
