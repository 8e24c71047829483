"""The model version. Label Studio requests predictions again only when it changes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from prelabel.checkpoints.cards import ModelCard, read_lock, sha256_of
from prelabel.settings import AppSettings
from prelabel.settings.fields import iterate_settings
from prelabel.settings.flat_names import GROUPED_NAMES

# Increase it when a change of the code changes predictions of the same weights and settings.
_RESULTS_REVISION = 4

# The digest keeps the names that the settings had before they were grouped: the grouping changed no
# prediction, and a new version would make Label Studio request all predictions again.
_FLAT_NAMES = {path: name for name, path in GROUPED_NAMES.items()}


def model_version(card: ModelCard, folder: Path, settings: AppSettings) -> str:
    """Return the card's name with a digest of weights and settings, such as "demo-1f0c39ab"."""
    lock = read_lock(folder)
    # Hashes that the card itself states are part of the card's dump.
    unhashed = [file.path for file in card.files if file.sha256 is None]
    hashes = {
        path: lock.files[path].sha256 if lock and path in lock.files else sha256_of(folder / path)
        for path in unhashed
    }
    facts = {
        "results": _RESULTS_REVISION,
        "card": card.model_dump(mode="json", exclude={"folder"}),
        "hashes": hashes,
        "settings": {
            _FLAT_NAMES.get(setting.path, setting.path): setting.value
            for setting in iterate_settings(settings)
            if setting.changes_predictions
        },
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return f"{card.name}-{digest[:8]}"
