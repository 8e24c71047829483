"""The labeling config's XML: read safely, and filled in with what a task brings."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from xml.etree.ElementTree import Element, ParseError, SubElement

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring
from pydantic import JsonValue

from prelabel.errors import LabelingConfigError
from prelabel.labelstudio.task_variables import resolve

MAX_CONFIG_CHARS = 1_000_000
MAX_DEPTH = 100
MAX_TAGS = 50_000
_MOST_REPEATS = 1_000


def parse_tree(xml: str) -> Element:
    """The root tag. Raises LabelingConfigError for what is not XML, too long, or too deep."""
    if len(xml) > MAX_CONFIG_CHARS:
        raise LabelingConfigError(
            f"The labeling config is longer than {MAX_CONFIG_CHARS} characters. Shorten it."
        )
    try:
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
    """Names of the object tags that a control tag belongs to."""
    return tuple(name.strip() for name in (tag.get("toName") or "").split(",") if name.strip())


def needs_task(tree: Element) -> bool:
    """Whether tags depend on a task's data: labels from `value="$field"`, or a Repeater."""
    return any(tag.tag == "Repeater" or _takes_labels(tag) for tag in tree.iter())


def fill_in(tree: Element, data: Mapping[str, JsonValue]) -> Element:
    """A copy in which Repeaters are repeated and labels from the task's data are Label tags.

    A Repeater without a list stays, empty. Raises LabelingConfigError where it would be longer
    than a config may be, or repeat its tags too often.
    """
    tree = copy.deepcopy(tree)
    room = _Room()
    _repeat(tree, data, room)
    for tag in list(tree.iter()):
        if _takes_labels(tag):
            listed = resolve(tag.attrib["value"], data)
            for item in listed if isinstance(listed, list) else []:
                if isinstance(item, dict):
                    attributes = {k: v for k, v in item.items() if isinstance(v, str)}
                    attributes |= _threshold(item)
                    room.take(SubElement(tag, "Label", attributes))
    return tree


def _threshold(item: Mapping[str, JsonValue]) -> Mapping[str, str]:
    """A label's threshold that is a number, as an attribute; another one is seen to be none."""
    threshold = item.get("model_score_threshold")
    return {} if threshold is None else {"model_score_threshold": str(threshold)}


class _Room:
    """How much a config may grow. Repeaters in Repeaters multiply, and so does what a task lists
    for many tags.
    """

    def __init__(self) -> None:
        self._left = MAX_CONFIG_CHARS

    def take(self, tag: Element) -> Element:
        """The same tag; its characters are taken off."""
        for each in tag.iter():
            attributes = sum(len(name) + len(value) + 4 for name, value in each.items())
            self._left -= len("<></>") + len(each.tag) + attributes
        if self._left < 0:
            raise LabelingConfigError(
                "With what the task brings, the labeling config is longer than "
                f"{MAX_CONFIG_CHARS} characters. Shorten the lists in the task."
            )
        return tag


def _takes_labels(tag: Element) -> bool:
    """Where a tag has labels of its own, Label Studio's validation accepts no others."""
    drawn = tag.tag in ("RectangleLabels", "Labels") and "$" in tag.get("value", "")
    return drawn and next(tag.iter("Label"), None) is None


def _repeat(tag: Element, data: Mapping[str, JsonValue], room: _Room) -> None:
    """Replace each Repeater by its children, once for each item of the list that it names."""
    children: list[Element] = []
    for child in tag:
        _repeat(child, data, room)
        if child.tag == "Repeater":
            children += list(_repeated(child, data, room)) or [Element("Repeater", child.attrib)]
        else:
            children.append(child)
    tag[:] = children


def _repeated(repeater: Element, data: Mapping[str, JsonValue], room: _Room) -> Iterator[Element]:
    items = resolve(repeater.get("on", ""), data)
    count = len(items) if isinstance(items, list) and len(repeater) else 0
    if count > _MOST_REPEATS:
        raise LabelingConfigError(
            f"The task has more than {_MOST_REPEATS} items under {repeater.get('on')!r}, for which "
            "the labeling config repeats its tags. Split it into several tasks."
        )
    flag = repeater.get("indexFlag") or "{{idx}}"
    for number in range(count):
        for part in repeater:
            yield room.take(_numbered(copy.deepcopy(part), flag, str(number)))


def _numbered(tag: Element, flag: str, number: str) -> Element:
    for each in tag.iter():
        each.attrib.update({k: v.replace(flag, number) for k, v in each.attrib.items()})
    return tag


def _check_depth(tag: Element, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise LabelingConfigError(
            f"The labeling config is nested deeper than {MAX_DEPTH} tags. Flatten it."
        )
    for child in tag:
        _check_depth(child, depth + 1)
