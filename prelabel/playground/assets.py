"""The files of the page, read once and served from a fixed table."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

PAGE: Final = "index.html"
MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the page.

    Attributes:
        content: Its bytes.
        media_type: The value of Content-Type.
        etag: The value of ETag, in quotes.
    """

    content: bytes
    media_type: str
    etag: str

    @classmethod
    def of(cls, content: bytes, media_type: str) -> Asset:
        """Return the asset with these bytes."""
        return cls(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:16]}"')


def load_assets() -> Mapping[str, Asset]:
    """Return the files of the page by name."""
    return {
        file.name: Asset.of(file.read_bytes(), MEDIA_TYPES[suffix])
        for file in files("prelabel.playground.page").iterdir()
        if (suffix := f".{file.name.rpartition('.')[2]}") in MEDIA_TYPES
    }
