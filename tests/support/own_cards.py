"""A user's own card: the demo model in another folder."""

from __future__ import annotations

from pathlib import Path

import yaml

from prelabel.checkpoints.cards import CARDS_FOLDER


def write_own_card(folder: Path, **fields: object) -> Path:
    """Write a card with other fields beside links to the demo model's files; return its path."""
    card = yaml.safe_load((CARDS_FOLDER / "demo.yaml").read_text())
    for file in (CARDS_FOLDER / "demo").iterdir():
        (folder / file.name).symlink_to(file)
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({**card, "name": "mine", "source": "local", **fields}))
    return path
