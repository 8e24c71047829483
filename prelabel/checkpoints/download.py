"""Fetch a card's files from the hub: resumable, held to their hashes, all or nothing.

`hf_hub_download` starts a file from its first byte after every kill, so the transfer is made of
the hub's own parts: metadata, then `http_get` onto what an earlier run left. The hub's variables
(HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, proxies) apply.
"""

from __future__ import annotations

import hashlib
import re
import shutil
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

from prelabel.checkpoints.cards import (
    LOCK_NAME,
    CheckpointLock,
    LockedFile,
    ModelCard,
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


def download(card: ModelCard, models_dir: str | Path, *, progress: bool = True) -> Path:
    """Install the card's files below `models_dir`; return their folder.

    A checkpoint that is there and whole is left as it is. Raises ModelError, whose sentence says
    what to do; what arrived before is kept for the next run, unless it is wrong.
    """
    folder = model_folder(card, models_dir)
    if not card.downloadable:
        verify(card, folder)
        return folder
    if _is_whole(card, folder):
        return folder
    if is_offline_mode():
        raise ModelError(
            f"HF_HUB_OFFLINE forbids downloading {card.name}. Unset it, or copy the files to "
            f"{card.name} in the models folder."
        )
    if not progress:
        disable_progress_bars()
    staging = resolve_path(models_dir) / f".{card.name}.part"
    lock = _fetch_all(card, staging)
    (staging / LOCK_NAME).write_text(lock.model_dump_json(indent=2) + "\n")
    _replace_folder(staging, folder)
    return folder


def _is_whole(card: ModelCard, folder: Path) -> bool:
    """Whether every file is there and has a hash on record, and of the commit that the card says.

    A file without a record may be anybody's, so it is fetched again.
    """
    lock = read_lock(folder)
    moved = lock is not None and card.revision is not None and lock.revision != card.revision
    if moved or (lock is None and any(file.sha256 is None for file in card.files)):
        return False
    try:
        verify(card, folder)
    except ModelError:
        return False
    return True


def _fetch_all(card: ModelCard, staging: Path) -> CheckpointLock:
    """Fetch and verify every file, all of one commit."""
    revision = card.revision
    locked: dict[str, LockedFile] = {}
    for file in card.files:
        remote = _ask_hub(card, file, revision)
        if remote.commit_hash is None or remote.etag is None:
            raise ModelError(
                f"What answers for the hub is none. Check HF_ENDPOINT for {card.name}."
            )
        revision = remote.commit_hash
        url = hf_hub_url(card.source, file.path, revision=revision)
        part = staging / f"{file.path}.{remote.etag[:16]}.part"
        part.parent.mkdir(parents=True, exist_ok=True)
        whole = staging / file.path
        if not whole.is_file():
            _transfer(card, url, remote, part)
            locked[file.path] = _accept(card, file, remote.etag, part)
            part.replace(whole)
        else:
            locked[file.path] = _accept(card, file, remote.etag, whole)
    return CheckpointLock(source=card.source, revision=revision or "", files=locked)


def _ask_hub(card: ModelCard, file: ModelFile, revision: str | None) -> HfFileMetadata:
    url = hf_hub_url(card.source, file.path, revision=revision)
    try:
        return get_hf_file_metadata(url, retry_on_errors=False)
    except GatedRepoError as error:
        raise ModelError(
            f"{card.source} is gated: accept its terms on the hub, then set HF_TOKEN."
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"The hub has no repository {card.source} that you may read. Check the card's source, "
            "or set HF_TOKEN if it is private."
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(
            f"{card.source} has no revision {revision}. Correct the card's revision."
        ) from error
    except EntryNotFoundError as error:
        raise ModelError(f"{card.source} has no file {file.path}. Correct the card.") from error
    except (httpx2.HTTPError, OfflineModeIsEnabled, OSError) as error:
        raise _unreachable(card) from error


def _transfer(card: ModelCard, url: str, remote: HfFileMetadata, part: Path) -> None:
    """Append to `part` what it lacks."""
    try:
        with part.open("ab") as file:
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
            "Check the disk's free space, then run the command again: it goes on from there."
        ) from error


def _accept(card: ModelCard, file: ModelFile, etag: str, path: Path) -> LockedFile:
    """Hold the file to the card's hash, or without one to the hub's; remove it if it is wrong."""
    sha256 = sha256_of(path)
    if file.sha256 is not None:
        right = sha256 == file.sha256
    elif _SHA256.fullmatch(etag):
        right = sha256 == etag
    else:
        right = _GIT_SHA1.fullmatch(etag) is not None and _git_sha1_of(path) == etag
    if not right:
        path.unlink()
        raise ModelError(
            f"{file.path} of {card.name} is not the file on record (wrong SHA-256) and was "
            "removed. Try again; if it stays so, the file on the hub has changed."
        )
    return LockedFile(sha256=sha256, size=path.stat().st_size)


def _git_sha1_of(path: Path) -> str:
    """The hash that git, and so the hub, gives to small files."""
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


def _unreachable(card: ModelCard) -> ModelError:
    return ModelError(
        f"The hub cannot be reached for {card.name}. Check the network, proxies and HF_ENDPOINT, "
        "then run the command again: it goes on from there."
    )
