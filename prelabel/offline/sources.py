"""Inputs by their kind: a folder, a bucket, or a file of tasks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prelabel.labelstudio.labeling_config import LabelingConfig
from prelabel.labelstudio.task_rows import picture_field
from prelabel.offline import task_files
from prelabel.offline.buckets import BucketSource, is_bucket, require_pyarrow
from prelabel.offline.folders import FolderSource, PictureAddress, local_files_prefix
from prelabel.offline.items import InputError, Source
from prelabel.offline.task_files import TaskFileSource


@dataclass(frozen=True, slots=True)
class Input:
    """An input.

    Attributes:
        name: Its absolute path or its URI.
        source: Its items.
        base: Folder from which relative paths in tasks count.
        pictures: The local folder of the pictures, None if they are not in one.
        prefix: Start of the pictures' addresses in the tasks; None if the tasks have their own.
    """

    name: str
    source: Source
    base: Path
    pictures: Path | None
    prefix: str | None


def open_input(text: str, config: LabelingConfig, prefix: str | None) -> Input:
    """Return the input that a user means.

    Args:
        text: A folder, a .jsonl, .json or .parquet file of tasks, or the address of a bucket.
        config: The labeling config.
        prefix: Start of the pictures' addresses; None for the default of the kind of input.

    Raises:
        InputError: There is no such input.
        LabelingConfigError: The config has not one picture, which pictures without tasks need.
    """
    if is_bucket(text):
        require_pyarrow("Reading from buckets")
        name = text.rstrip("/")
        prefix = f"{name}/" if prefix is None else prefix
        return Input(name, BucketSource(name, _address(config, prefix)), Path.cwd(), None, prefix)
    path = Path(text).expanduser().absolute()
    if path.is_dir():
        prefix = local_files_prefix(path) if prefix is None else prefix
        source = FolderSource(path, _address(config, prefix))
        return Input(str(path), source, path, path, prefix)
    if not path.exists():
        raise InputError(f"There is no {text}. Correct --input.")
    if path.suffix.lower() not in task_files.SUFFIXES:
        raise InputError(
            f"{text} is no folder, and no file of tasks ({', '.join(task_files.SUFFIXES)}). "
            "Correct --input."
        )
    if prefix is not None:
        raise InputError("The tasks of a file have their own addresses. Leave out the prefix.")
    return Input(str(path), TaskFileSource(path), path.parent, None, None)


def _address(config: LabelingConfig, prefix: str) -> PictureAddress:
    field, is_list = picture_field(config)
    is_url = prefix.startswith(("http:", "https:", "/"))
    return PictureAddress(field, is_list, prefix, is_quoted=is_url)
