"""The items of a job as blocks of a Ray Data set: one for each file.

`ray.data.read_parquet` joins small files to one block of up to 128 MiB. An engine would then answer
all items in one task, and none of them would be stored before its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pyarrow
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from prelabel.offline.job import JobFolder


class ItemBlocks(Datasource):
    """The files of items of a job.

    Args:
        folder: The address of the job's folder.
        paths: The paths of the files, as `JobFolder.item_files` returns them.
    """

    def __init__(self, folder: str, paths: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._folder, self._paths = folder, paths

    def get_read_tasks(
        self,
        parallelism: int,  # noqa: ARG002 - the files are the blocks
        per_task_row_limit: int | None = None,
        data_context: Any = None,  # noqa: ARG002 - not needed
    ) -> list[ReadTask]:
        """Return one task for each file."""
        metadata = BlockMetadata(None, None, None, None)
        return [
            ReadTask(self._reader(path), metadata, per_task_row_limit=per_task_row_limit)
            for path in self._paths
        ]

    def estimate_inmemory_data_size(self) -> int | None:
        """Return None: the items are small."""
        return None

    def _reader(self, path: str) -> Callable[[], Iterable[pyarrow.Table]]:
        return partial(_read, self._folder, path)


def _read(folder: str, path: str) -> list[pyarrow.Table]:
    return [JobFolder(folder).read_items(path)]
