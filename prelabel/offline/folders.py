"""The pictures below a folder of this machine."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import quote

from pydantic import JsonValue

from prelabel.errors import ImageFetchError
from prelabel.offline.items import InputError, Item

SUFFIXES: Final = frozenset(
    (".jpg", ".jpeg", ".jfif", ".mpo", ".png", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff")
)
_LOCAL_FILES: Final = "/data/local-files/?d="


@dataclass(frozen=True, slots=True)
class PictureAddress:
    """Form of the pictures' addresses in the tasks of a listing.

    Attributes:
        field: The field of a task's data that has the address.
        is_list: True if the field has a list of addresses.
        prefix: Text before the path of a picture.
        is_quoted: True if the path is a part of a URL.
    """

    field: str
    is_list: bool
    prefix: str
    is_quoted: bool = True

    def data(self, path: str) -> dict[str, JsonValue]:
        """Return the data of the task of a picture."""
        address = self.prefix + (quote(path) if self.is_quoted else path)
        return {self.field: [address] if self.is_list else address}


def local_files_prefix(folder: Path) -> str:
    """Return the start of Label Studio's addresses of files below a folder.

    Label Studio's document root is the parent of the folder then.
    """
    return f"{_LOCAL_FILES}{quote(folder.resolve().name)}/"


def is_picture(name: str) -> bool:
    """Return whether a file is a picture by its name. Hidden files are not."""
    return not name.startswith(".") and PurePosixPath(name).suffix.lower() in SUFFIXES


class FolderSource:
    """The pictures below a folder, in the order of their paths. Links are followed.

    Args:
        folder: The folder.
        address: How the tasks name their pictures.
    """

    def __init__(self, folder: Path, address: PictureAddress) -> None:
        self._folder, self._address = folder, address

    def items(self) -> Iterator[Item]:
        """Yield the pictures. File names that are not UTF-8 are faults, as are folders that cannot
        be read.

        Raises InputError if the folder itself cannot be read.
        """
        try:
            os.scandir(self._folder).close()
        except OSError as error:
            raise InputError(
                f"The folder {self._folder} cannot be read ({error.strerror}). Correct --input."
            ) from error
        yield from self._below(self._folder, "", ())

    def _below(
        self, folder: Path, prefix: str, above: tuple[tuple[int, int], ...]
    ) -> Iterator[Item]:
        try:
            found = folder.stat()
            if (here := (found.st_dev, found.st_ino)) in above:
                return  # a link to a folder above
            with os.scandir(folder) as entries:
                names = sorted((each.name, _is_folder(each)) for each in entries)
        except OSError as error:
            yield Item(
                _readable(prefix) or ".",
                fault=f"The folder cannot be read ({error.strerror}). Allow it, and try again.",
            )
            return
        for name, is_folder in names:
            if is_folder and not name.startswith("."):
                yield from self._below(folder / name, f"{prefix}{name}/", (*above, here))
            elif not is_folder and is_picture(name):
                yield self._item(prefix + name)

    def _item(self, path: str) -> Item:
        try:
            path.encode()
        except UnicodeEncodeError:
            return Item(
                _readable(path),
                fault="The name of the file is not UTF-8, and Label Studio cannot address it. "
                "Rename it.",
            )
        return Item(path, self._address.data(path), str(self._folder / path))


def read_file(path: str, max_bytes: int) -> bytes:
    """Return the content of a file. Raises ImageFetchError if it cannot be read."""
    try:
        # Before the file is opened, because opening a pipe would wait for its other end.
        found = Path(path).stat()
        if not stat.S_ISREG(found.st_mode):
            raise ImageFetchError(f"{path} is not a file. Remove it.")
        if found.st_size > max_bytes:
            raise ImageFetchError(
                f"The picture {path} is larger than {max_bytes} bytes; make it smaller or raise "
                "images.max_bytes."
            )
        return Path(path).read_bytes()
    except OSError as error:
        raise ImageFetchError(
            f"The file {path} cannot be read ({error.strerror}). Check it and its permissions."
        ) from error
    except ValueError as error:
        raise ImageFetchError(f"The path {path!r} is not one of a file. Correct it.") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _readable(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")
