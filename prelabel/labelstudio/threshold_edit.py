"""`model_score_threshold` set on Label tags, in the text of a labeling config.

The text is edited in place, so that comments, spaces, the order of attributes and entities stay as
they are. The result is parsed and compared with the original before it is returned.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final
from xml.etree.ElementTree import Element
from xml.parsers import expat

from prelabel.errors import LabelingConfigError
from prelabel.labelstudio.config_tree import parse_tree
from prelabel.labelstudio.shapes import LABEL_TAGS

ATTRIBUTE: Final = "model_score_threshold"
# A start tag: its name, attributes with quoted values, and its end.
_TAG: Final = re.compile(rb"""<[^\s/>]+((?:\s+[^\s=]+\s*=\s*(?:"[^"]*"|'[^']*'))*)\s*/?>""")
_VALUE: Final = re.compile(rb"""(\s%s\s*=\s*)("[^"]*"|'[^']*')""" % ATTRIBUTE.encode())


def set_thresholds(xml: str, thresholds: Mapping[str, float]) -> str:
    """Return the labeling config with other thresholds of some labels.

    All Label tags of a label get the threshold, because a box and its mask may have one each.

    Args:
        xml: The labeling config.
        thresholds: The thresholds by label, as regions spell it (the alias, if there is one).

    Raises:
        LabelingConfigError: A label has no Label tag: it comes from a task's data.
    """
    tags = list(parse_tree(xml).iter())
    wanted = {tag: thresholds[label] for tag, label in _labels(tags) if label in thresholds}
    known = {label for _, label in _labels(tags)}
    if missing := [label for label in thresholds if label not in known]:
        raise LabelingConfigError(
            f"The labeling config has no <Label> tag for {missing[0]!r}, because its labels come "
            f"from the tasks. Set {ATTRIBUTE} in the tasks' data, or on the control tag."
        )
    return _edited(xml, tags, {tag: _number(value) for tag, value in wanted.items()})


def _labels(tags: list[Element]) -> Iterator[tuple[Element, str]]:
    """Yield the Label tags of control tags for regions, with the labels of their regions."""
    for control in tags:
        if control.tag in LABEL_TAGS:
            for tag in control.iter("Label"):
                if value := tag.get("alias") or tag.get("value"):
                    yield tag, value


def _edited(xml: str, tags: list[Element], values: Mapping[Element, str]) -> str:
    # Elements are compared by identity: each tag of the config is one.
    numbers = {number: values[tag] for number, tag in enumerate(tags) if tag in values}
    text = xml.encode()
    starts = _start_offsets(text)
    for number in sorted(numbers, reverse=True):  # so that the offsets before stay valid
        start = starts[number]
        tag = _TAG.match(text, start)
        if tag is None:
            raise _not_editable()
        text = text[:start] + _with_value(tag, numbers[number]) + text[tag.end() :]
    edited = text.decode()
    _check(tags, list(parse_tree(edited).iter()), numbers)
    return edited


def _start_offsets(text: bytes) -> list[int]:
    """Return the places of the start tags, in the order of the document."""
    parser = expat.ParserCreate("utf-8")  # whatever the declaration says: the text is ours
    offsets: list[int] = []
    parser.StartElementHandler = lambda *_: offsets.append(parser.CurrentByteIndex)
    try:
        parser.Parse(text, True)
    except expat.ExpatError:  # ElementTree has read it, with another encoding
        raise _not_editable() from None
    return offsets


def _with_value(tag: re.Match[bytes], value: str) -> bytes:
    whole = tag.group()
    if found := _VALUE.search(whole):
        return whole[: found.start(2)] + f'"{value}"'.encode() + whole[found.end(2) :]
    end = tag.end(1) - tag.start()
    return whole[:end] + f' {ATTRIBUTE}="{value}"'.encode() + whole[end:]


def _check(before: list[Element], after: list[Element], numbers: Mapping[int, str]) -> None:
    """Raise LabelingConfigError unless the wanted attributes alone differ."""
    expected = [
        {**tag.attrib, ATTRIBUTE: numbers[i]} if i in numbers else tag.attrib
        for i, tag in enumerate(before)
    ]
    contents = [[(tag.tag, tag.text, tag.tail) for tag in tags] for tags in (before, after)]
    if expected != [tag.attrib for tag in after] or contents[0] != contents[1]:
        raise _not_editable()


def _number(threshold: float) -> str:
    return f"{threshold:.4f}".rstrip("0").rstrip(".") or "0"


def _not_editable() -> LabelingConfigError:
    return LabelingConfigError(
        f"The labeling config cannot be edited here. Set {ATTRIBUTE} by hand under Settings, "
        "Labeling Interface, Code."
    )
