"""Reads a picture wherever it is: a file, a bucket, Label Studio, the web, the task itself."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from prelabel.offline.buckets import is_bucket, read_object
from prelabel.offline.folders import read_file
from prelabel.offline.items import Read
from prelabel.service import image_download
from prelabel.settings import AppSettings, Environment

_DOWNLOADED: Final = (
    "http:",
    "https:",
    "data:",
    "/data/upload/",
    "/data/local-files/",
    "/storage-data/",
)


def picture_reader(settings: AppSettings, environment: Environment, base: Path) -> Read:
    """Return a function that reads a picture by its path or address.

    Pictures of the web and of Label Studio are downloaded under the rules of the service. Files and
    buckets are read with the permissions of the user who runs the command.

    Args:
        settings: The application's settings.
        environment: Address and token of Label Studio, proxies.
        base: Folder from which relative paths count.
    """
    download = image_download(settings, environment)
    max_bytes = settings.images.max_bytes

    def read(address: str) -> bytes:
        if is_bucket(address):
            return read_object(address, max_bytes)
        if address.startswith(_DOWNLOADED):
            return download(address, None)
        return read_file(str(base / address.removeprefix("file://")), max_bytes)

    return read
