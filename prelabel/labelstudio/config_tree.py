"""The labeling config's XML: safe parsing, and the tags and labels that a task's data adds."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from xml.etree.ElementTree import Element, ParseError, SubElement

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring
from pydantic import JsonValue

from prelabel.errors import LabelingConfigError
from prelabel.labelstudio.shapes import LABEL_TAGS
from prelabel.labelstudio.task_variables import resolve

MAX_CONFIG_CHARS = 1_000_000
MAX_DEPTH = 100  # nested tags, because the functions here and copy.deepcopy recurse
MAX_TAGS = 50_000
_MOST_REPEATS = 1_000  # of one Repeater


def parse_tree(xml: str) -> Element:
    """Parse a labeling config and return its root tag.

    Raises:
        LabelingConfigError: The text is not XML, is too long, or is nested too deep.
    """
    if len(xml) > MAX_CONFIG_CHARS:
        raise LabelingConfigError(
            f"The labeling config is longer than {MAX_CONFIG_CHARS} characters. Shorten it."
        )
    try:
        # Without document types there are no entities, which can expand to gigabytes.
        root: Element = fromstring(xml, forbid_dtd=True)
    except ParseError as error:
        raise LabelingConfigError(
            f"The labeling config is not well-formed XML ({error}). Save it again in Label Studio."
        ) from error
    except (DefusedXmlException, ValueError) as error:
        raise LabelingConfigError(
            "The labeling config declares a document type or entities. Remove them."
        ) from error
    if sum(1 for _ in root.iter()) > MAX_TAGS:
        raise LabelingConfigError(f"The labeling config has more than {MAX_TAGS} tags. Shorten it.")
    _check_depth(root, 0)
    return root


def to_names(tag: Element) -> tuple[str, ...]:
    """Return the names of the object tags that a control tag belongs to."""
    return tuple(name.strip() for name in (tag.get("toName") or "").split(",") if name.strip())


def fraction_of(tag: Element | None, attribute: str) -> float | None:
    """Return an attribute's value if it is a number from 0 to 1, else None."""
    try:
        number = float(tag.get(attribute, "")) if tag is not None else None
    except ValueError:
        return None
    return number if number is not None and 0 <= number <= 1 else None


def depends_on_task(tree: Element) -> bool:
    """Return True if a task's data adds tags: labels by `value="$field"`, or a Repeater's."""
    return any(tag.tag == "Repeater" or _has_task_labels(tag) for tag in tree.iter())


def fill_in(tree: Element, data: Mapping[str, JsonValue]) -> Element:
    """Return a copy with expanded Repeaters, and Label tags for the labels in the task's data.

    A Repeater whose list the task does not have stays in the copy, without children.

    Raises:
        LabelingConfigError: The copy is too long, or a Repeater repeats its tags too often.
    """
    tree = copy.deepcopy(tree)  # the original is cached with its project's config
    budget = _SizeBudget()
    _expand_repeaters(tree, data, budget)
    for tag in list(tree.iter()):
        if _has_task_labels(tag):
            items = resolve(tag.attrib["value"], data)
            for item in items if isinstance(items, list) else []:
                if isinstance(item, dict):
                    budget.spend(SubElement(tag, "Label", _label_attributes(item)))
    return tree


def _label_attributes(item: Mapping[str, JsonValue]) -> dict[str, str]:
    attributes = {name: value for name, value in item.items() if isinstance(value, str)}
    # A value of any type is copied, so that an invalid threshold is reported.
    threshold = item.get("model_score_threshold")
    return (
        attributes if threshold is None else attributes | {"model_score_threshold": str(threshold)}
    )


class _SizeBudget:
    """The characters that a task's data may add to a config.

    Nested Repeaters multiply their tags, and a task's list of labels may belong to many tags.
    """

    def __init__(self) -> None:
        self._left = MAX_CONFIG_CHARS

    def spend(self, tag: Element) -> Element:
        """Subtract the characters of a tag, and return the tag. Raises LabelingConfigError."""
        for each in tag.iter():
            attributes = sum(len(name) + len(value) + 4 for name, value in each.items())
            self._left -= len("<></>") + len(each.tag) + attributes
        if self._left < 0:
            raise LabelingConfigError(
                "With the task's labels and repeated tags, the labeling config is longer than "
                f"{MAX_CONFIG_CHARS} characters. Shorten the lists in the task."
            )
        return tag


def _has_task_labels(tag: Element) -> bool:
    names_field = tag.tag in LABEL_TAGS and "$" in tag.get("value", "")
    # If a tag has Label tags, Label Studio's validation accepts no labels of the task.
    return names_field and next(tag.iter("Label"), None) is None


def _expand_repeaters(tag: Element, data: Mapping[str, JsonValue], budget: _SizeBudget) -> None:
    """Replace each Repeater by its children, once for each item of the list that it names."""
    children: list[Element] = []
    for child in tag:
        _expand_repeaters(child, data, budget)  # inner Repeaters first
        if child.tag == "Repeater":
            copies = list(_repeated_children(child, data, budget))
            children += copies or [Element("Repeater", child.attrib)]
        else:
            children.append(child)
    tag[:] = children


def _repeated_children(
    repeater: Element, data: Mapping[str, JsonValue], budget: _SizeBudget
) -> Iterator[Element]:
    items = resolve(repeater.get("on", ""), data)
    count = len(items) if isinstance(items, list) and len(repeater) else 0
    if count > _MOST_REPEATS:
        raise LabelingConfigError(
            f"The task has more than {_MOST_REPEATS} items under {repeater.get('on')!r}, for which "
            "the labeling config repeats its tags. Split it into several tasks."
        )
    placeholder = repeater.get("indexFlag") or "{{idx}}"
    for index in range(count):
        for child in repeater:
            yield budget.spend(_with_index(copy.deepcopy(child), placeholder, str(index)))


def _with_index(tag: Element, placeholder: str, index: str) -> Element:
    for each in tag.iter():
        each.attrib.update({k: v.replace(placeholder, index) for k, v in each.attrib.items()})
    return tag


def _check_depth(tag: Element, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise LabelingConfigError(
            f"The labeling config is nested deeper than {MAX_DEPTH} tags. Flatten it."
        )
    for child in tag:
        _check_depth(child, depth + 1)
