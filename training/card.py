"""Model cards of trained checkpoints. `python -m training.card FOLDER` ships a checkpoint."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from prelabel.checkpoints.cards import CARDS_FOLDER, load_card, sha256_of

# The edges in pixels that pictures are resized to, within the sizes of the last training stage.
IMAGE_SIZE = {"shortest_edge": 192, "longest_edge": 256}
_FILES = ("model.safetensors", "config.json", "tokenizer.json")


def write_card(folder: Path) -> Path:
    """Write demo.yaml beside the checkpoint, and return its path: a value for `model.name`."""
    card = load_card("demo").model_dump(mode="json", exclude={"folder"}, exclude_defaults=True)
    card |= {"source": "local", "files": file_entries(folder, _FILES), "image_size": IMAGE_SIZE}
    path = folder / "demo.yaml"
    path.write_text(yaml.safe_dump(card, sort_keys=False))
    return path


def ship(folder: Path) -> None:
    """Copy a checkpoint to the shipped demo, and write its hashes and sizes into the card."""
    shipped = CARDS_FOLDER / "demo"
    for name in _FILES:
        shutil.copyfile(folder / name, shipped / name)
    processor = shipped / "processor_config.json"
    settings = json.loads(processor.read_text())
    settings["image_processor"]["size"] = IMAGE_SIZE
    processor.write_text(json.dumps(settings, indent=2) + "\n")
    path = CARDS_FOLDER / "demo.yaml"
    replace_files(path, file_entries(folder, _FILES))
    text = path.read_text()
    for edge, pixels in IMAGE_SIZE.items():
        text = re.sub(rf"(?<={edge}: )\d+", str(pixels), text)
    path.write_text(text)


def file_entries(folder: Path, names: Iterable[str]) -> list[dict[str, Any]]:
    """Return the entries of files in a card: path, hash and size."""
    return [
        {"path": name, "sha256": sha256_of(folder / name), "size": (folder / name).stat().st_size}
        for name in names
    ]


def replace_files(card: Path, entries: Iterable[dict[str, Any]]) -> None:
    """Write the entries of files into a card (.yaml), and leave its other lines as they are."""
    lines = "".join(
        f"  - path: {entry['path']}\n    sha256: {entry['sha256']}\n    size: {entry['size']}\n"
        for entry in entries
    )
    text = re.sub(r"(?<=^files:\n)(?:  .*\n)+", lines, card.read_text(), flags=re.MULTILINE)
    card.write_text(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="such as training/work/demo")
    ship(parser.parse_args().folder)
