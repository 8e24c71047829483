"""The model version. Label Studio requests predictions again only when it changes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from prelabel.checkpoints.cards import (
    ModelCard,
    SegmenterCard,
    model_folder,
    read_lock,
    sha256_of,
)
from prelabel.settings import AppSettings
from prelabel.settings.fields import iterate_settings
from prelabel.settings.flat_names import GROUPED_NAMES

# Increase it when a change of the code changes predictions of the same weights and settings.
_RESULTS_REVISION = 4

# The digest keeps the names that the settings had before they were grouped: the grouping changed no
# prediction, and a new version would make Label Studio request all predictions again.
_FLAT_NAMES = {path: name for name, path in GROUPED_NAMES.items()}


def model_version(
    card: ModelCard, folder: Path, settings: AppSettings, segmenter: SegmenterCard | None = None
) -> str:
    """Return the card's name with a digest of weights and settings, such as "demo-1f0c39ab".

    Args:
        card: The detector's card.
        folder: Folder of the detector's files.
        settings: The application's settings.
        segmenter: The segmenter's card, None if the service draws no masks. The settings of masks
            count only with it, so that a service without masks keeps its version.
    """
    values = {
        _FLAT_NAMES.get(setting.path, setting.path): setting.value
        for setting in iterate_settings(settings)
        if setting.changes_predictions
        # The card says which segmenter "auto" is.
        if setting.path != "model.segmenter"
        if segmenter is not None or not setting.path.startswith("masks.")
        # Settings that are younger than the version: with their defaults, it stays as it was.
        if not (setting.path.startswith("review.") and setting.value == setting.field.default)
    }
    facts = {"results": _RESULTS_REVISION, **_card_facts(card, folder), "settings": values}
    if segmenter is not None:
        facts["segmenter"] = _card_facts(segmenter, model_folder(segmenter, settings.model.folder))
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return f"{card.name}-{digest[:8]}"


def is_version_of(version: str, cards: Collection[str]) -> bool:
    """Return True if a model version has the form that `model_version` gives one of the cards."""
    name, _, digest = version.rpartition("-")
    return name in cards and re.fullmatch(r"[0-9a-f]{8}", digest) is not None


def _card_facts(card: ModelCard | SegmenterCard, folder: Path) -> dict[str, Any]:
    """Return the card, and the hashes of the files for which it states none."""
    lock = read_lock(folder)
    unhashed = [file.path for file in card.files if file.sha256 is None]
    hashes = {
        path: lock.files[path].sha256 if lock and path in lock.files else sha256_of(folder / path)
        for path in unhashed
    }
    # The words that a model knows, and published facts, are texts for users.
    told = card.model_dump(mode="json", exclude={"folder", "knows", "published"})
    return {"card": told, "hashes": hashes}
