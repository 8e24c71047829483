"""The text of a labeling config that is written from labels and thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import quoteattr

_PROMPT_TAG: Final = (
    '  <TextArea name="prompt" toName="image" editable="true" rows="2" maxSubmissions="1" '
    'showSubmitButton="true"/>'
)


@dataclass(frozen=True, slots=True)
class ConfigLabel:
    """A label of a config.

    Attributes:
        value: The label.
        phrases: Phrases to look for in place of the label; empty for the label itself.
    """

    value: str
    phrases: tuple[str, ...] = ()


def config_text(
    labels: Sequence[ConfigLabel],
    negatives: Sequence[str] = (),
    thresholds: Mapping[str, float] | None = None,
    *,
    masks: bool = False,
) -> str:
    """Return a labeling config for boxes on one picture, `$image`, with a field for prompts.

    Args:
        labels: The labels, at least one.
        negatives: Phrases that are searched for, and whose boxes are dropped.
        thresholds: Default values of `box_threshold` and `text_threshold`; annotators can change
            those that are named.
        masks: Draw the outlines of the objects beside their boxes.
    """
    dropped = f" negative_values={quoteattr(', '.join(negatives))}" if negatives else ""
    lines = [
        "<View>",
        _PROMPT_TAG,
        *(
            f'  <Number name="{name}" toName="image" min="0" max="1" step="0.01" '
            f'defaultValue="{value:g}"/>'
            for name, value in (thresholds or {}).items()
        ),
        '  <Image name="image" value="$image" zoom="true"/>',
        f'  <RectangleLabels name="label" toName="image"{dropped}>',
        *map(_label_tag, labels),
        "  </RectangleLabels>",
    ]
    if masks:
        lines += [
            '  <PolygonLabels name="mask" toName="image">',
            *(_label_tag(ConfigLabel(label.value)) for label in labels),
            "  </PolygonLabels>",
        ]
    return "\n".join([*lines, "</View>", ""])


def _label_tag(label: ConfigLabel) -> str:
    predicted = f" predicted_values={quoteattr(', '.join(label.phrases))}" if label.phrases else ""
    return f"    <Label value={quoteattr(label.value)}{predicted}/>"
