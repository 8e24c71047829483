"""The model version: Label Studio asks for a prediction again only when it changes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from prelabel.checkpoints.cards import ModelCard, read_lock, sha256_of
from prelabel.settings.application import AppSettings

# Settings that cannot change a prediction. All others do: a forgotten one costs a new prediction,
# a wrongly listed one would keep a stale prediction for ever.
_WITHOUT_EFFECT = frozenset(
    {
        "models_dir",
        "prompts_file",
        "max_batch_size",
        "result_cache_bytes",
        "picture_cache_bytes",
        "picture_cache_s",
        "connect_timeout_s",
        "fetch_timeout_s",
        "request_deadline_s",
        "task_concurrency",
        "max_tasks",
        "max_body_bytes",
        "allowed_image_hosts",
        "proxy_resolves_names",
        "log_level",
        "release",
    }
)


# Counted up when the code changes what is predicted from the same weights and settings.
_RESULTS_REVISION = 4


def model_version(card: ModelCard, folder: Path, settings: AppSettings) -> str:
    """Name of the card and a digest of the weights' hashes and the settings: "demo-1f0c39ab"."""
    lock = read_lock(folder)
    unknown = [file.path for file in card.files if file.sha256 is None]
    hashes = {
        path: lock.files[path].sha256 if lock and path in lock.files else sha256_of(folder / path)
        for path in unknown
    }
    facts = {
        "results": _RESULTS_REVISION,
        "card": card.model_dump(mode="json", exclude={"folder"}),
        "hashes": hashes,
        "settings": settings.model_dump(mode="json", exclude=set(_WITHOUT_EFFECT)),
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return f"{card.name}-{digest[:8]}"
