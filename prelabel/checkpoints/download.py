"""Downloads a card's files from the hub: resumable, verified by their hashes, all or nothing.

After a kill, `hf_hub_download` restarts a file from its first byte. So this module calls the two
functions below it: `get_hf_file_metadata`, then `http_get`, which appends to a partial file. The
variables of huggingface-hub (HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, proxies) apply.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx2
from huggingface_hub import (
    HfFileMetadata,
    get_hf_file_metadata,
    hf_hub_url,
    is_offline_mode,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers, disable_progress_bars
from typing_extensions import Buffer

from prelabel.checkpoints.cards import (
    LOCK_NAME,
    Card,
    CheckpointLock,
    LockedFile,
    ModelFile,
    model_folder,
    read_lock,
    sha256_of,
    verify,
)
from prelabel.errors import ModelError
from prelabel.settings.paths import resolve_path

_SHA256 = re.compile(r"[0-9a-f]{64}")
_GIT_SHA1 = re.compile(r"[0-9a-f]{40}")

# Receives the name of a file, the number of its bytes that are here, and their number in all.
Observe = Callable[[str, int, int | None], None]


def _observe_nothing(_file: str, _here: int, _total: int | None) -> None:
    pass


def download(card: Card, models_dir: str | Path, *, observe: Observe = _observe_nothing) -> Path:
    """Install the card's files in a folder below `models_dir`; return that folder.

    A complete checkpoint is left as it is. Raises ModelError, whose sentence says what to do; the
    bytes that arrived are kept for the next run, unless they are wrong.

    Args:
        card: The model.
        models_dir: Folder of all models.
        observe: Called as the bytes of a file arrive.
    """
    folder = model_folder(card, models_dir)
    if not card.downloadable:
        verify(card, folder)
        return folder
    if _is_complete(card, folder):
        return folder
    if is_offline_mode():
        raise ModelError(
            f"HF_HUB_OFFLINE forbids downloading {card.name}. Unset it, or copy the files to "
            f"{card.name} in the models folder."
        )
    disable_progress_bars()  # `observe` has its own
    staging = resolve_path(models_dir) / f".{card.name}.part"
    lock = _fetch_all(card, staging, observe)
    (staging / LOCK_NAME).write_text(lock.model_dump_json(indent=2) + "\n")
    _replace_folder(staging, folder)
    return folder


def _is_complete(card: Card, folder: Path) -> bool:
    """Return True if every file has its hash on record and belongs to the card's commit.

    Without a record, the origin of a file is unknown, so it is downloaded again.
    """
    lock = read_lock(folder)
    is_outdated = lock is not None and card.revision is not None and lock.revision != card.revision
    if is_outdated or (lock is None and any(file.sha256 is None for file in card.files)):
        return False
    try:
        verify(card, folder)
    except ModelError:
        return False
    return True


def _fetch_all(card: Card, staging: Path, observe: Observe) -> CheckpointLock:
    """Download and verify every file, all of the same commit."""
    revision = card.revision
    locked: dict[str, LockedFile] = {}
    for file in card.files:
        remote = _fetch_metadata(card, file, revision)
        if remote.commit_hash is None or remote.etag is None:
            raise ModelError(
                f"The server at the hub's address is not a hub. Check HF_ENDPOINT for {card.name}."
            )
        revision = remote.commit_hash  # a branch may move between two files
        url = hf_hub_url(card.source, file.path, revision=revision)
        # The ETag in the name keeps bytes of another version of the file from being resumed.
        part = staging / f"{file.path}.{remote.etag[:16]}.part"
        part.parent.mkdir(parents=True, exist_ok=True)
        complete = staging / file.path
        if not complete.is_file():
            _transfer(card, url, remote, part, partial(observe, file.path))
            locked[file.path] = _verify_file(card, file, remote.etag, part)
            part.replace(complete)
        else:
            locked[file.path] = _verify_file(card, file, remote.etag, complete)
    return CheckpointLock(source=card.source, revision=revision or "", files=locked)


def _fetch_metadata(card: Card, file: ModelFile, revision: str | None) -> HfFileMetadata:
    url = hf_hub_url(card.source, file.path, revision=revision)
    try:
        return get_hf_file_metadata(url, retry_on_errors=False)
    except GatedRepoError as error:
        raise ModelError(
            f"{card.source} is gated: accept its terms on the hub, then set HF_TOKEN."
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"The hub has no repository {card.source} that you may read. Check the card's source; "
            "if it is private, set HF_TOKEN."
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(
            f"{card.source} has no revision {revision}. Correct the card's revision."
        ) from error
    except EntryNotFoundError as error:
        raise ModelError(f"{card.source} has no file {file.path}. Correct the card.") from error
    except (httpx2.HTTPError, OfflineModeIsEnabled, OSError) as error:
        raise _unreachable(card) from error


class _ObservedFile(io.BufferedWriter):
    """A file that tells how long it is after each chunk."""

    def __init__(self, path: Path, observe: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(path, "ab"))
        self._observe = observe
        observe(self.tell())

    def write(self, chunk: Buffer, /) -> int:
        """Append a chunk."""
        written = super().write(chunk)
        self._observe(self.tell())
        return written


def _transfer(
    card: Card,
    url: str,
    remote: HfFileMetadata,
    part: Path,
    observe: Callable[[int, int | None], None],
) -> None:
    """Append the missing bytes to the partial file."""
    try:
        with _ObservedFile(part, lambda here: observe(here, remote.size)) as file:
            http_get(
                url,
                file,
                resume_size=file.tell(),
                headers=dict(build_hf_headers()),
                expected_size=remote.size,
                displayed_filename=part.name.split(".part")[0].rsplit(".", 1)[0],
            )
    except httpx2.HTTPError as error:
        raise _unreachable(card) from error
    except OSError as error:
        raise ModelError(
            f"Downloading {card.name} stopped ({error.strerror or 'incomplete'}). "
            "Check the disk's free space, then run the command again: it resumes the download."
        ) from error


def _verify_file(card: Card, file: ModelFile, etag: str, path: Path) -> LockedFile:
    """Check a file against the card's hash, or else the hub's; delete it if it does not match."""
    sha256 = sha256_of(path)
    # The hub's ETag is the SHA-256 of a file in LFS, and git's hash of any other file.
    if file.sha256 is not None:
        matches = sha256 == file.sha256
    elif _SHA256.fullmatch(etag):
        matches = sha256 == etag
    else:
        matches = _GIT_SHA1.fullmatch(etag) is not None and _git_sha1_of(path) == etag
    if not matches:
        path.unlink()
        raise ModelError(
            f"{file.path} of {card.name} is not the file on record (wrong SHA-256) and was "
            "removed. Try again; if the error persists, the file on the hub has changed."
        )
    return LockedFile(sha256=sha256, size=path.stat().st_size)


def _git_sha1_of(path: Path) -> str:
    """Return git's hash of a file's content."""
    content = path.read_bytes()
    header = f"blob {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


def _replace_folder(staging: Path, folder: Path) -> None:
    old = staging.with_suffix(".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    staging.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _unreachable(card: Card) -> ModelError:
    return ModelError(
        f"The hub cannot be reached for {card.name}. Check the network, proxies and HF_ENDPOINT, "
        "then run the command again: it resumes the download."
    )
