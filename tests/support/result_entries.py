"""Entries of an annotation's result, as Label Studio's page sends them."""

from typing import Any


def typed(text: str, name: str = "prompt") -> dict[str, Any]:
    """A prompt in the text area."""
    value = {"text": [text]}
    return {"type": "textarea", "from_name": name, "to_name": "image", "value": value}


def number(value: float, name: str = "box_threshold") -> dict[str, Any]:
    """A number in a Number control."""
    return {"type": "number", "from_name": name, "to_name": "image", "value": {"number": value}}
