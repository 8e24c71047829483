"""Pictures in buckets, through PyArrow's file systems."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from prelabel.errors import ImageFetchError
from prelabel.offline.folders import PictureAddress, is_picture
from prelabel.offline.items import InputError, Item

SCHEMES: Final = ("s3", "gs", "gcs", "abfs", "abfss")
NEEDS_JOBS: Final = "Install it: pip install 'prelabel[jobs]', or `make jobs` in a checkout."


def is_bucket(address: str) -> bool:
    """Return whether an address is one of a bucket or of a file in it."""
    return urlsplit(address).scheme in SCHEMES if "://" in address else False


def require_pyarrow(purpose: str) -> Any:
    """Return PyArrow's file systems. Raises InputError with the purpose if it is not installed."""
    try:
        return importlib.import_module("pyarrow.fs")
    except ImportError as error:
        raise InputError(f"{purpose} needs PyArrow. {NEEDS_JOBS}") from error


@lru_cache(maxsize=16)
def file_system(root: str) -> Any:
    """Return the file system of a bucket, with the credentials of the environment.

    Args:
        root: Scheme and bucket: "s3://pictures".
    """
    fs = require_pyarrow("Reading from buckets")
    try:
        return fs.FileSystem.from_uri(root)[0]
    except (OSError, ValueError) as error:
        raise InputError(f"The bucket {root} cannot be opened ({error}). Correct it.") from error


def split(address: str) -> tuple[str, str]:
    """Return scheme with bucket, and bucket with path, as PyArrow names it."""
    scheme, _, path = address.partition("://")
    return f"{scheme}://{path.partition('/')[0]}", path


class BucketSource:
    """The pictures below a prefix of a bucket, in the order of their keys, page by page.

    Args:
        address: Such as "s3://bucket/prefix".
        picture: How the tasks name their pictures.
    """

    def __init__(self, address: str, picture: PictureAddress) -> None:
        self._root, self._path = split(address.rstrip("/"))
        self._scheme = self._root.partition("://")[0]
        self._picture = picture

    def items(self) -> Iterator[Item]:
        """Yield the pictures, a folder at a time.

        Raises InputError if the bucket cannot be read.
        """
        yield from self._below(self._path)

    def _below(self, folder: str) -> Iterator[Item]:
        fs = require_pyarrow("Reading from buckets")
        try:
            selector = fs.FileSelector(folder, recursive=False)
            found = file_system(self._root).get_file_info(selector)
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self._scheme}://{folder} cannot be listed ({error}). Check the address, the "
                "credentials of the environment, and AWS_ENDPOINT_URL if the bucket is not on AWS."
            ) from error
        for info in sorted(found, key=lambda each: each.path):
            if info.type == fs.FileType.Directory and not info.base_name.startswith("."):
                yield from self._below(info.path)
            elif info.type == fs.FileType.File and is_picture(info.base_name):
                key = info.path[len(self._path) :].lstrip("/")
                yield Item(key, self._picture.data(key), f"{self._scheme}://{info.path}")


def read_object(address: str, max_bytes: int) -> bytes:
    """Return the content of a file in a bucket. Raises ImageFetchError if it cannot be read."""
    root, path = split(address)
    try:
        with file_system(root).open_input_file(path) as file:
            if file.size() > max_bytes:
                raise ImageFetchError(
                    f"The picture {address} is larger than {max_bytes} bytes; make it smaller or "
                    "raise images.max_bytes."
                )
            content: bytes = file.readall()
            return content
    except (OSError, ValueError, InputError) as error:
        raise ImageFetchError(
            f"{address} cannot be read ({error}). Check the address and the credentials."
        ) from error
