"""Names that the settings had before they were grouped, and the error that says the new place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import yaml

# The flat names `log_level` and `release` are still valid and therefore not listed.
GROUPED_NAMES: Final[Mapping[str, str]] = {
    "model": "model.name",
    "models_dir": "model.folder",
    "device": "model.device",
    "precision": "model.precision",
    "box_threshold": "detection.box_threshold",
    "text_threshold": "detection.text_threshold",
    "nms_iou_threshold": "detection.nms_iou_threshold",
    "nms_class_agnostic": "detection.nms_class_agnostic",
    "max_boxes": "detection.max_boxes",
    "min_box_px": "detection.min_box_px",
    "max_batch_size": "detection.max_batch_size",
    "tile_size": "detection.tile_size",
    "tile_overlap": "detection.tile_overlap",
    "max_tiles": "detection.max_tiles",
    "unknown_phrases": "prompts.unknown_phrases",
    "remember_prompts": "prompts.remember",
    "prompts_file": "prompts.file",
    "max_prompt_chars": "prompts.max_chars",
    "max_labels": "prompts.max_labels",
    "max_image_bytes": "images.max_bytes",
    "max_image_pixels": "images.max_pixels",
    "connect_timeout_s": "images.connect_timeout_s",
    "fetch_timeout_s": "images.fetch_timeout_s",
    "allowed_image_hosts": "images.allowed_hosts",
    "proxy_resolves_names": "images.proxy_resolves_names",
    "max_tasks": "limits.max_tasks",
    "max_body_bytes": "limits.max_body_bytes",
    "request_deadline_s": "limits.request_deadline_s",
    "task_concurrency": "limits.task_concurrency",
    "result_cache_bytes": "cache.result_bytes",
    "picture_cache_bytes": "cache.picture_bytes",
    "picture_cache_s": "cache.picture_s",
}


def refuse_flat_names(args: Mapping[Any, Any]) -> None:
    """Raise ValueError if `args:` has settings outside their group, with the lines to write."""
    # A mapping under `model` is the group; any other value is the former name of the model.
    flat = {
        name: path
        for name, path in GROUPED_NAMES.items()
        if name in args and not (name == "model" and not isinstance(args[name], str))
    }
    if not flat:
        return
    grouped: dict[str, dict[str, object]] = {}
    for name, path in flat.items():
        group, _, field = path.partition(".")
        grouped.setdefault(group, {})[field] = args[name]
    if list(flat) == ["model"]:
        raise ValueError(f"model is a group now; write {_as_yaml(grouped)}.")
    *names, last = flat
    if not names:
        raise ValueError(f"{last} is now {flat[last]}. Write it under args: {_as_yaml(grouped)}.")
    # The new paths are left out because the lines to write show them, and PrelabelError cuts long
    # sentences.
    raise ValueError(
        f"{', '.join(names)} and {last} are in groups now. "
        f"Write them under args: {_as_yaml(grouped)}."
    )


def _as_yaml(grouped: Mapping[str, Mapping[str, object]]) -> str:
    """Return the groups in YAML's flow style, without the outer braces."""
    text = yaml.dump(grouped, default_flow_style=True, sort_keys=False, width=10**6)
    return text.strip()[1:-1]
