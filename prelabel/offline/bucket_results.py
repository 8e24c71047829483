"""The results of a job in a bucket: shards, failures and manifest as whole objects."""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from prelabel.offline.buckets import file_system, is_bucket, require_pyarrow, split
from prelabel.offline.items import OutputError
from prelabel.offline.job import PURPOSE
from prelabel.offline.key_index import KeyIndex
from prelabel.offline.manifest import CONFIG_NAME, NAME, Manifest, check_manifest, to_text
from prelabel.offline.parquet import to_table
from prelabel.offline.predictor import Failure, Row
from prelabel.offline.results import FAILED_NAME, SHARD_ROWS, TASKS

_PARQUET: Final = "parquet"


class BucketResults:
    """The results of one run in a bucket.

    Only one run at a time may write there; a bucket has no lock.

    Args:
        address: Such as "s3://bucket/prefix".
        manifest: The facts of the run.

    Raises:
        OutputError: The bucket cannot be used, or has the results of another run. The methods raise
            it, too.
    """

    def __init__(self, address: str, manifest: Manifest) -> None:
        assert is_bucket(address)
        self._fs: Any = require_pyarrow(PURPOSE)
        self.address = address.rstrip("/")
        root, self._path = split(self.address)
        self._files = file_system(root)
        if not check_manifest(self._text(NAME), manifest, self.address):
            self._write(CONFIG_NAME, manifest.label_config.encode())
            self._write(NAME, to_text(manifest).encode())

    def collect(self, parts: Iterable[list[Row | Failure]], *, parquet: bool) -> tuple[int, int]:
        """Write the shards anew from the parts of the job. Return the numbers of rows and failures.

        The same parts give the same shards, so that a run that was interrupted can repeat it.
        """
        shard: list[bytes] = []
        failures: list[bytes] = []
        number = stored = 0
        with tempfile.TemporaryDirectory() as folder:
            seen = KeyIndex(Path(folder) / "seen.sqlite")
            for outcomes in parts:
                known = seen.known([each.key for each in outcomes])
                new = [each for each, is_known in zip(outcomes, known, strict=True) if not is_known]
                seen.add((each.key for each in new), 0)
                for outcome in new:
                    if isinstance(outcome, Failure):
                        line = {"input": outcome.key, "error": outcome.reason}
                        failures.append(json.dumps(line).encode() + b"\n")
                        continue
                    shard.append(outcome.line)
                    stored += 1
                    if len(shard) == SHARD_ROWS:
                        self._write_shard(number, shard, parquet=parquet)
                        shard, number = [], number + 1
            seen.close()
        if shard:
            self._write_shard(number, shard, parquet=parquet)
        self._write(FAILED_NAME, b"".join(failures))
        return stored, len(failures)

    def failures(self) -> list[tuple[str, str]]:
        """Return key and reason of each item that failed."""
        lines = (self._text(FAILED_NAME) or "").splitlines()
        return [(each["input"], each["error"]) for each in map(json.loads, lines)]

    def _write_shard(self, number: int, lines: list[bytes], *, parquet: bool) -> None:
        self._write(f"{TASKS}/tasks-{number:06}.jsonl", b"".join(lines))
        if parquet:
            module: Any = importlib.import_module("pyarrow.parquet")
            path = f"{self._path}/{_PARQUET}/tasks-{number:06}.parquet"
            self._checked(module.write_table, to_table(lines), path, filesystem=self._files)

    def _text(self, name: str) -> str | None:
        path = f"{self._path}/{name}"
        info = self._checked(self._files.get_file_info, path)
        if info.type == self._fs.FileType.NotFound:
            return None

        def read() -> bytes:
            with self._files.open_input_file(path) as file:
                content: bytes = file.readall()
                return content

        return str(self._checked(read).decode())

    def _write(self, name: str, content: bytes) -> None:
        def write() -> None:
            with self._files.open_output_stream(f"{self._path}/{name}") as file:
                file.write(content)

        self._checked(write)

    def _checked(self, do: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return do(*arguments, **options)
        except (OSError, ValueError) as error:
            raise OutputError(
                f"{self.address} cannot be used ({error}). Check the bucket and the credentials, "
                "then run the same command again to continue."
            ) from error
