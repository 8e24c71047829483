"""Cards of trained segmenters. `python -m training.segmentation.card FOLDER` ships a checkpoint."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import yaml

from prelabel.checkpoints.cards import SEGMENTERS_FOLDER, load_segmenter_card
from training.card import file_entries, replace_files

NAME = "demo-segmenter"
_FILES = ("model.safetensors", "config.json")


def write_card(folder: Path) -> Path:
    """Write demo-segmenter.yaml beside the checkpoint: a value for `model.segmenter`."""
    card = load_segmenter_card(NAME).model_dump(
        mode="json", exclude={"folder"}, exclude_defaults=True
    )
    card |= {"source": "local", "files": file_entries(folder, _FILES)}
    path = folder / f"{NAME}.yaml"
    path.write_text(yaml.safe_dump(card, sort_keys=False))
    return path


def ship(folder: Path, cards: Path = SEGMENTERS_FOLDER) -> None:
    """Copy a checkpoint to the shipped segmenter, and write its hashes and sizes into the card."""
    for name in _FILES:
        shutil.copyfile(folder / name, cards / NAME / name)
    replace_files(cards / f"{NAME}.yaml", file_entries(folder, _FILES))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help=f"such as training/work/{NAME}")
    ship(parser.parse_args().folder)
