"""The files through which a command and its job on a Ray cluster exchange items and rows.

    items/items-000000.parquet   the items that are left, one file for each block
    parts/*.parquet              rows and failures, as the job writes them
    checkpoint/                  Ray Data's record of the items whose parts are whole
    spec.json                    settings and labels

The folder is on storage that the command and all nodes share: a folder, or a bucket.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Final

from prelabel.offline.buckets import is_bucket, require_pyarrow
from prelabel.offline.items import InputError, Item, OutputError
from prelabel.offline.predictor import Failure, Row, Search
from prelabel.settings import AppSettings
from prelabel.types import PromptRequest

ID: Final = "id"  # column of items, parts and checkpoint
PURPOSE: Final = "A job on Ray"


@dataclass(frozen=True, slots=True)
class JobSpec:
    """The facts that the engines of a job need.

    Attributes:
        settings: The application's settings.
        search: Labels and prompt.
        version: The model version that all engines must have.
        base: Folder from which relative paths in tasks count.
        batch: Items that an engine gets at a time.
        engines: Most engines at a time; None for as many as the cluster has room for at the start.
    """

    settings: AppSettings
    search: Search
    version: str
    base: str
    batch: int
    engines: int | None = None

    def to_text(self) -> str:
        """Return the spec as JSON."""
        facts = {
            "settings": self.settings.model_dump(mode="json"),
            "label_config": self.search.label_config,
            "prompt": asdict(self.search.prompt),
            "version": self.version,
            "base": self.base,
            "batch": self.batch,
            "engines": self.engines,
        }
        return json.dumps(facts, indent=2) + "\n"

    @classmethod
    def from_text(cls, text: str) -> JobSpec:
        """Return the spec that `to_text` wrote."""
        facts = json.loads(text)
        return cls(
            AppSettings.model_validate(facts["settings"]),
            Search(facts["label_config"], PromptRequest(**facts["prompt"])),
            facts["version"],
            facts["base"],
            facts["batch"],
            facts["engines"],
        )


class JobFolder:
    """The folder of a job.

    Args:
        address: An absolute path or the address of a bucket.

    Attributes:
        address: The same.

    Raises:
        InputError: PyArrow is not installed, or the bucket cannot be opened.
        OutputError: The methods raise it if the folder cannot be written or read.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self._fs: Any = require_pyarrow(PURPOSE)
        self._parquet: Any = importlib.import_module("pyarrow.parquet")
        self._arrow: Any = importlib.import_module("pyarrow")
        try:
            self._files, self._root = self._fs.FileSystem.from_uri(self.address)
        except (OSError, ValueError) as error:
            raise InputError(f"{address} cannot be opened ({error}). Correct --output.") from error

    def sub(self, name: str) -> str:
        """Return the address of a part of the folder."""
        return f"{self.address}/{name}"

    def write_items(self, items: Iterable[Item], block_rows: int) -> int:
        """Replace the items. Return their number.

        Args:
            items: Items with unique keys.
            block_rows: Items of a file, which the job handles as one block.
        """
        number = 0
        self._checked(self._remove, "items")
        self._checked(self._files.create_dir, f"{self._root}/items", recursive=True)
        for file, block in enumerate(_blocks(items, block_rows)):
            columns = {
                ID: [item.key for item in block],
                "data": [json.dumps(item.data) for item in block],
                "place": [item.place for item in block],
                "more": [json.dumps(item.more) for item in block],
                "fault": [item.fault for item in block],
            }
            text = self._arrow.string()
            table = self._arrow.table(
                columns, schema=self._arrow.schema([(name, text) for name in columns])
            )
            path = f"{self._root}/items/items-{file:06}.parquet"
            self._checked(self._parquet.write_table, table, path, filesystem=self._files)
            number += len(block)
        return number

    def item_files(self) -> list[str]:
        """Return the paths of the files of items."""
        return self._listed("items")

    def read_items(self, path: str) -> Any:
        """Return a file of items as an Arrow table."""
        return self._checked(self._parquet.read_table, path, filesystem=self._files)

    def write_spec(self, spec: JobSpec) -> None:
        """Write the spec."""
        self._checked(self._write, f"{self._root}/spec.json", spec.to_text().encode())

    def read_spec(self) -> JobSpec:
        """Return the spec."""
        content: bytes = self._checked(self._read, f"{self._root}/spec.json")
        return JobSpec.from_text(content.decode())

    def parts(self) -> list[str]:
        """Return the paths of the parts, in order of their names.

        Parts whose items the checkpoint does not have are left out: the next job removes them.
        """
        whole = {_stem(path) for path in self._listed("checkpoint") if ".pending." not in path}
        return [
            path
            for path in self._listed("parts")
            if any(_stem(path).startswith(stem) for stem in _prefixes(_stem(path), whole))
        ]

    def count(self, counted: dict[str, int]) -> int:
        """Return the number of items that the checkpoint has.

        Args:
            counted: Numbers by file, from earlier calls; the new ones are added.
        """
        for path in self._listed("checkpoint"):
            if path not in counted and ".pending." not in path:
                try:
                    counted[path] = self._parquet.read_metadata(
                        path, filesystem=self._files
                    ).num_rows
                except (OSError, ValueError):
                    continue  # renamed or removed meanwhile
        return sum(counted.values())

    def finished(self) -> Iterator[list[str]]:
        """Yield the keys of the items whose parts are whole, by file."""
        for path in self._listed("checkpoint"):
            if ".pending." not in path:
                table = self._checked(
                    self._parquet.read_table, path, columns=[ID], filesystem=self._files
                )
                yield table.column(ID).to_pylist()

    def read_part(self, path: str) -> list[Row | Failure]:
        """Return the rows and failures of a part."""
        table = self._checked(self._parquet.read_table, path, filesystem=self._files)
        return [
            Failure(row[ID], row["reason"])
            if row["reason"] is not None
            else Row(row[ID], row["line"].encode())
            for row in table.to_pylist()
        ]

    def remove(self) -> None:
        """Remove the folder."""
        self._checked(self._files.delete_dir, self._root)

    def exists(self) -> bool:
        """Return whether there is anything of an earlier job."""
        info = self._checked(self._files.get_file_info, self._root)
        return bool(info.type != self._fs.FileType.NotFound)

    def _remove(self, name: str) -> None:
        path = f"{self._root}/{name}"
        if self._files.get_file_info(path).type != self._fs.FileType.NotFound:
            self._files.delete_dir(path)

    def _listed(self, name: str) -> list[str]:
        selector = self._fs.FileSelector(
            f"{self._root}/{name}", recursive=False, allow_not_found=True
        )
        found = self._checked(self._files.get_file_info, selector)
        return sorted(info.path for info in found if info.path.endswith(".parquet"))

    def _write(self, path: str, content: bytes) -> None:
        with self._files.open_output_stream(path) as file:
            file.write(content)

    def _read(self, path: str) -> bytes:
        with self._files.open_input_file(path) as file:
            content: bytes = file.readall()
            return content

    def _checked(self, do: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return do(*arguments, **options)
        except (OSError, ValueError) as error:
            where = "bucket" if is_bucket(self.address) else "disk"
            raise OutputError(
                f"{self.address} cannot be used ({error}). Check the {where} and its permissions, "
                "then run the same command again to continue."
            ) from error


def _prefixes(name: str, whole: set[str]) -> Iterator[str]:
    """Yield the names of checkpoints that a part's name begins with."""
    yield from (name[:end] for end in range(len(name), 0, -1) if name[:end] in whole)


def _stem(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".parquet")


def _blocks(items: Iterable[Item], size: int) -> Iterator[Sequence[Item]]:
    iterator = iter(items)
    while block := list(islice(iterator, size)):
        yield block
