"""Entries of an annotation's result, and the webhook of its submit, as Label Studio sends them."""

from datetime import UTC, datetime
from typing import Any


def typed(text: str, name: str = "prompt") -> dict[str, Any]:
    """A prompt in the text area."""
    value = {"text": [text]}
    return {"type": "textarea", "from_name": name, "to_name": "image", "value": value}


def number(value: float, name: str = "box_threshold") -> dict[str, Any]:
    """A number in a Number control."""
    return {"type": "number", "from_name": name, "to_name": "image", "value": {"number": value}}


def labelled_box(label: str, to_name: str = "image", **fields: int | str) -> dict[str, Any]:
    """A box with a label, in the upper left corner of the picture."""
    value = {"x": 0, "y": 0, "width": 10, "height": 10, "rectanglelabels": [label]}
    entry = {"type": "rectanglelabels", "from_name": "label", "to_name": to_name, "value": value}
    return entry | fields


def submitted(project: str, prompt: str, label_config: str, image: str) -> dict[str, Any]:
    """The webhook of an annotation with a typed prompt. project: its key, `ID.CREATED`."""
    number, created = project.split(".")
    return {
        "action": "ANNOTATION_CREATED",
        "project": {
            "id": int(number),
            "created_at": datetime.fromtimestamp(int(created), UTC).isoformat(),
            "label_config": label_config,
        },
        "annotation": {"result": [typed(prompt)], "updated_at": datetime.now(UTC).isoformat()},
        "task": {"data": {"image": image}},
    }
