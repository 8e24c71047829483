"""Recognises broken checkpoint files by their first bytes, without torch."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Final

_READ_BYTES: Final = 512
_POINTER: Final = b"version https://git-lfs.github.com/spec/"
_ZIP: Final = b"PK\x03\x04"
_PICKLES: Final = (".pth", ".pt", ".bin", ".ckpt")
# A safetensors file begins with the length of its table of contents, in eight bytes; then comes
# the table, which is JSON.
_LENGTH_BYTES: Final = 8
_MAX_TABLE_BYTES: Final = 100_000_000  # safetensors' own limit


def fault_of(path: Path) -> str | None:
    """Return a file's fault in words that follow its name in a sentence; None without a fault."""
    with path.open("rb") as file:
        head = file.read(_READ_BYTES)
    if not head:
        return "is empty"
    if head.startswith(_POINTER):
        return "is a Git LFS pointer in place of the file"
    if head.lstrip()[:1] == b"<":
        return "is a web page in place of the file, such as a log-in or an error page"
    if path.suffix == ".safetensors" and _is_truncated_safetensors(path, head):
        return "is truncated, or not a safetensors file"
    # torch.save writes a ZIP archive; its directory, without which it is invalid, is at its end.
    if path.suffix in _PICKLES and head.startswith(_ZIP) and not zipfile.is_zipfile(path):
        return "is truncated"
    return None


def _is_truncated_safetensors(path: Path, head: bytes) -> bool:
    length = int.from_bytes(head[:_LENGTH_BYTES], "little")
    if length > _MAX_TABLE_BYTES:
        return True
    with path.open("rb") as file:
        table = file.read(_LENGTH_BYTES + length)[_LENGTH_BYTES:]
    try:
        entries = json.loads(table)
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name[0] != "_"]
        return path.stat().st_size < _LENGTH_BYTES + length + max(ends, default=0)
    except (ValueError, TypeError, LookupError, AttributeError):
        return True
