"""The further formats of an output folder, made from its shards."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from enum import StrEnum
from pathlib import Path

from prelabel.labelstudio.task_rows import TaskRow, read_line
from prelabel.offline.coco import write_coco
from prelabel.offline.items import OutputError
from prelabel.offline.parquet import require_parquet, write_parquet
from prelabel.offline.results import shard_paths
from prelabel.offline.yolo import write_yolo

_SHOWN = 3


class Format(StrEnum):
    """A format of the output. The shards of JSON lines are always written."""

    JSONL = "jsonl"
    PARQUET = "parquet"
    COCO = "coco"
    YOLO = "yolo"


def require_formats(formats: Collection[Format]) -> None:
    """Raise InputError if a format needs a package that is not installed."""
    if Format.PARQUET in formats:
        require_parquet()


def export(
    folder: Path, formats: Collection[Format], labels: Sequence[str], pictures: Path | None
) -> list[str]:
    """Write the further formats of an output folder. Return sentences about what is left out.

    Args:
        folder: The output folder, whose shards are whole.
        formats: The formats.
        labels: The labels of the labeling config, in its order.
        pictures: The local folder of the pictures, if they are in one.

    Raises:
        OutputError: A file cannot be written.
    """
    notes = []
    try:
        if Format.PARQUET in formats:
            write_parquet(shard_paths(folder), folder / Format.PARQUET)
        if Format.COCO in formats:
            (folder / Format.COCO).mkdir(exist_ok=True)
            write_coco(_rows(folder), labels, folder / Format.COCO / "instances.json")
        if Format.YOLO in formats:
            clashing = write_yolo(_rows(folder), labels, folder / Format.YOLO, pictures)
            if clashing:
                more = "" if len(clashing) <= _SHOWN else ", ..."
                notes.append(
                    f"{len(clashing)} pictures have no file of YOLO's, because another one has "
                    f"the same name up to the suffix: {', '.join(clashing[:_SHOWN])}{more}. "
                    "Rename them."
                )
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written ({error.strerror}). Free space on its disk and check its "
            "permissions, then run the same command again: the predictions are stored."
        ) from error
    return notes


def _rows(folder: Path) -> Iterator[TaskRow]:
    for shard in shard_paths(folder):
        with shard.open("rb") as lines:
            for line in lines:
                yield read_line(line)
