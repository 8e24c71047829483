"""The facts that all predictions of an output folder share; manifest.json has them."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from prelabel.offline.items import OutputError
from prelabel.offline.predictor import Search

_FORMAT: Final = 1
NAME: Final = "manifest.json"
CONFIG_NAME: Final = "label_config.xml"
_WORDS: Final = {
    "input": "the input",
    "model_version": "the model version",
    "label_config": "the labeling config",
    "prompt": "the prompt",
    "box_threshold": "the box threshold",
    "text_threshold": "the text threshold",
    "prefix": "the address prefix",
    "format": "the format",
}


@dataclass(frozen=True, slots=True)
class Manifest:
    """The facts of a run that decide its predictions.

    Attributes:
        input: The input, as an absolute path or a URI.
        model_version: The model version.
        label_config: The labeling config.
        prompt: The prompt, None without one.
        box_threshold: None for the settings' value.
        text_threshold: None for the settings' value.
        prefix: The start of the addresses in the tasks; None for those of a file of tasks.
        format: Version of the folder's layout.
    """

    input: str
    model_version: str
    label_config: str
    prompt: str | None
    box_threshold: float | None
    text_threshold: float | None
    prefix: str | None
    format: int = _FORMAT

    @classmethod
    def of(cls, address: str, version: str, search: Search, prefix: str | None) -> Manifest:
        """Return the manifest of a run over the input at an address."""
        prompt = search.prompt
        return cls(
            address,
            version,
            search.label_config,
            prompt.prompt,
            prompt.box_threshold,
            prompt.text_threshold,
            prefix,
        )


def check_manifest(text: str | None, manifest: Manifest, folder: str) -> bool:
    """Check the content of a folder's manifest file. Return False if it has none yet.

    Raises OutputError if the folder belongs to another run.
    """
    if text is None:
        return False
    try:
        found = json.loads(text)
        differing = [n for n, value in asdict(manifest).items() if found.get(n) != value]
    except (ValueError, AttributeError) as error:
        raise OutputError(
            f"{NAME} in {folder} is damaged. Choose another --output, or remove the folder."
        ) from error
    if differing:
        name = differing[0]
        shown = f" ({found.get(name)!s:.80}, now {asdict(manifest)[name]!s:.80})"
        raise OutputError(
            f"{folder} has predictions of a run in which {_WORDS[name]} was another"
            f"{shown if name != 'label_config' else ''}. Choose another --output, or remove the "
            "folder."
        )
    return True


def to_text(manifest: Manifest) -> str:
    """Return the content of a manifest file."""
    return json.dumps(asdict(manifest), indent=2) + "\n"


def enter_folder(folder: Path, manifest: Manifest) -> None:
    """Make a local folder one of this run.

    Raises OutputError if it cannot be written, belongs to another run, or has files of others.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / NAME
        if file.exists() and _has_results(folder):
            check_manifest(file.read_text(), manifest, str(folder))
            return
        if not file.exists() and any(not each.name.startswith(".") for each in folder.iterdir()):
            raise OutputError(
                f"{folder} has other files. Choose an empty or a new folder as --output."
            )
        (folder / CONFIG_NAME).write_text(manifest.label_config)
        write_whole(file, to_text(manifest).encode())
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written ({error.strerror}). Choose another --output."
        ) from error


def _has_results(folder: Path) -> bool:
    """Return False for the folder of a run that ended before its first result."""
    return any(
        path.is_dir() or path.stat().st_size
        for pattern in ("tasks/*", "job", "failed.jsonl")
        for path in folder.glob(pattern)
    )


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there with all its content or not at all. Raises OSError."""
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
