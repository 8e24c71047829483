"""The tags of a labeling config in which annotators enter a prompt and thresholds.

Label Studio has no tag for prompts, and projects name their text areas and numbers differently. So
the tags are found by their names, and numbers also by their bounds.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from prelabel.labelstudio.config_tree import fraction_of, to_names

_THRESHOLD_WORDS = ("threshold", "thresh", "score", "confidence")


@dataclass(frozen=True, slots=True)
class PromptArea:
    """The text area that holds the prompt.

    Attributes:
        name: Name of the TextArea tag.
        to_name: Name of the Image tag.
        value: The `$field` of the task that fills the text area; "" if none does.
        repeatable: True if the text area takes several texts. Label Studio hides a text area for a
            single text once a prediction contains a text.
    """

    name: str
    to_name: str
    value: str
    repeatable: bool


def find_prompt_area(tags: Sequence[Element], images: Container[str]) -> PromptArea | None:
    """Return the text area named "prompt"; else one with "prompt" in its name; else the first."""
    areas = [tag for tag in tags if tag.tag == "TextArea" and _is_for_whole_image(tag, images)]
    areas.sort(key=lambda tag: _name_rank(tag.get("name", ""), "prompt"))
    if not areas:
        return None
    tag = areas[0]
    to_name = next(name for name in to_names(tag) if name in images)
    value = tag.get("value", "")
    return PromptArea(
        tag.get("name", ""),
        to_name,
        value if "$" in value else "",
        repeatable=tag.get("maxSubmissions") != "1",
    )


def find_threshold_tags(
    tags: Sequence[Element], area: PromptArea | None
) -> tuple[Element | None, Element | None]:
    """Return the Number tags that hold the box threshold and the text threshold.

    They are found by their names. If no name says "threshold" and the config has a text area for a
    prompt, numbers with the bounds 0 and 1 are taken.
    """
    numbers = [tag for tag in tags if tag.tag == "Number" and _may_be_threshold(tag)]
    thresholds = [tag for tag in numbers if _has_threshold_name(tag)]
    if not thresholds and area is not None and "prompt" in area.name.lower():
        thresholds = [
            t for t in numbers if (fraction_of(t, "min"), fraction_of(t, "max")) == (0, 1)
        ]
    text = [tag for tag in thresholds if "text" in tag.get("name", "").lower()]
    box = [tag for tag in thresholds if "text" not in tag.get("name", "").lower()]
    box.sort(key=lambda tag: _name_rank(tag.get("name", ""), "box_threshold"))
    text.sort(key=lambda tag: _name_rank(tag.get("name", ""), "text_threshold"))
    return next(iter(box), None), next(iter(text), None)


def _may_be_threshold(tag: Element) -> bool:
    # A number from 1 to 5, or to 100, is a rating, a count or a percentage.
    in_range = all(not tag.get(b) or fraction_of(tag, b) is not None for b in ("min", "max"))
    is_interval = fraction_of(tag, "min") != 1 and fraction_of(tag, "max") != 0
    return bool(tag.get("name")) and tag.get("perRegion") != "true" and in_range and is_interval


def _has_threshold_name(tag: Element) -> bool:
    return any(word in tag.get("name", "").lower() for word in _THRESHOLD_WORDS)


def _is_for_whole_image(tag: Element, images: Container[str]) -> bool:
    is_repeated = "true" in (tag.get("perRegion"), tag.get("perItem"))
    on_image = any(name in images for name in to_names(tag))
    return bool(tag.get("name")) and not is_repeated and on_image


def _name_rank(name: str, expected: str) -> int:
    return 0 if name == expected else 1 if expected in name.lower() else 2
