"""The predict request that Label Studio's page sends for a typed prompt, created from Python."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import quoteattr

from pydantic import JsonValue


def labeling_config(labels: Sequence[str], *, masks: bool = False) -> str:
    """Return a labeling config with a prompt, both thresholds, and one rectangle label per word.

    With `masks`, it has the same labels for brushes, too.
    """
    tags = "".join(f"<Label value={quoteattr(label)}/>" for label in labels)
    return (
        '<View><TextArea name="prompt" toName="image"/>'
        '<Number name="box_threshold" toName="image"/>'
        '<Number name="text_threshold" toName="image"/>'
        '<Image name="image" value="$image"/>'
        f'<RectangleLabels name="label" toName="image">{tags}</RectangleLabels>'
        + (f'<BrushLabels name="mask" toName="image">{tags}</BrushLabels>' if masks else "")
        + "</View>"
    )


def prompt_request(
    image: bytes,
    prompt: str,
    labels: Sequence[str],
    thresholds: Mapping[str, float | None],
    *,
    masks: bool = False,
) -> dict[str, JsonValue]:
    """Return the body of POST /predict for one picture, which is inside of the request.

    Args:
        image: The encoded picture.
        prompt: The text prompt.
        labels: The labels of the labeling config.
        thresholds: `box_threshold` and `text_threshold`; with None, the service's own apply.
        masks: Request masks beside the boxes.
    """
    numbers: list[JsonValue] = [
        _entry("number", name, {"number": value})
        for name, value in thresholds.items()
        if value is not None
    ]
    uri = f"data:image/*;base64,{base64.b64encode(image).decode()}"
    return {
        "tasks": [{"id": 1, "data": {"image": uri}}],
        "label_config": labeling_config(labels, masks=masks),
        "params": {
            "context": {"result": [*numbers, _entry("textarea", "prompt", {"text": [prompt]})]}
        },
    }


def request_with_config(
    address: str,
    config: str,
    prompt: str | None,
    thresholds: Mapping[str, float | None],
) -> dict[str, JsonValue]:
    """Return the body of POST /predict for one picture of a project with a labeling config.

    Args:
        address: Address of the picture, or a data: URL.
        config: The labeling config, with `$image` and a text area `prompt`.
        prompt: The prompt that an annotator typed; None to search for the labels.
        thresholds: `box_threshold` and `text_threshold`; with None, the service's own apply.
    """
    typed: JsonValue = None
    if prompt is not None:
        typed = {"result": [_entry("textarea", "prompt", {"text": [prompt]})]}
    given = {name: value for name, value in thresholds.items() if value is not None}
    return {
        "tasks": [{"id": 1, "data": {"image": address}}],
        "label_config": config,
        "params": {"context": typed, **given},
    }


def _entry(kind: str, name: str, value: dict[str, JsonValue]) -> JsonValue:
    return {"type": kind, "from_name": name, "to_name": "image", "value": value}
