"""Labeling config (XML) -> which pictures to look at, what to look for, where the boxes go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring
from pydantic import JsonValue

from prelabel.errors import LabelingConfigError, RequestError

MAX_CONFIG_CHARS = 1_000_000
MAX_DEPTH = 100

HOW_TO_ADD_BOXES = (
    'Add <Image name="image" value="$image"/> and '
    '<RectangleLabels name="label" toName="image"><Label value="cat"/></RectangleLabels>.'
)


@dataclass(frozen=True, slots=True)
class Label:
    """A value of a control tag.

    value: what regions carry (the alias, where there is one, as Label Studio does);
    phrases: what to look for when there is no prompt; names: what a prompt may call it, folded.
    """

    value: str
    phrases: tuple[str, ...]
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class RectangleControl:
    """A RectangleLabels tag on one object tag. score_threshold: its `model_score_threshold`."""

    from_name: str
    to_name: str
    labels: tuple[Label, ...]
    score_threshold: float | None

    def label_named(self, phrase: str) -> Label | None:
        """The first label that a prompt can mean by this phrase; case does not matter."""
        name = _folded(phrase)
        return next((label for label in self.labels if name in label.names), None)


@dataclass(frozen=True, slots=True)
class ImageObject:
    """An Image tag: its name, and where a task keeps the picture's address.

    many: the task keeps a list of addresses there (`valueList`).
    """

    name: str
    value: str
    many: bool

    def uris(self, task: Mapping[str, JsonValue]) -> tuple[str, ...]:
        """Addresses of the task's pictures: one, or several for a `valueList`."""
        found = _look_up(task, self.value.removeprefix("$")) if "$" in self.value else self.value
        uris = found if self.many and isinstance(found, list) else [found]
        texts = tuple(uri.strip() for uri in uris if isinstance(uri, str) and uri.strip())
        if not texts or len(texts) != len(uris):
            raise RequestError(
                f"The task has no picture address under {self.value!r}, which the labeling "
                f"config's <Image> tag names. Import the task with that field."
            )
        return texts


@dataclass(frozen=True, slots=True)
class LabelingConfig:
    """What a project's config asks for. prompt_names: its text areas that hold a prompt."""

    controls: tuple[RectangleControl, ...]
    images: tuple[ImageObject, ...]
    prompt_names: tuple[str, ...]

    def controls_of(self, image: ImageObject) -> tuple[RectangleControl, ...]:
        """The control tags that draw on this picture."""
        return tuple(control for control in self.controls if control.to_name == image.name)


@lru_cache(maxsize=32)
def parse_labeling_config(xml: str, max_labels: int) -> LabelingConfig:
    """Parse a labeling config.

    Raises LabelingConfigError if it is not XML, too large, or has no RectangleLabels on an Image.
    """
    root = _parse_xml(xml)
    tags = list(_walk(root, 0))
    images = tuple(_images(tags))
    names = {image.name for image in images}
    controls = tuple(c for tag in tags if tag.tag == "RectangleLabels" for c in _controls(tag))
    usable = tuple(control for control in controls if control.to_name in names)
    if not usable:
        raise LabelingConfigError(
            f"The labeling config has no RectangleLabels for an Image. {HOW_TO_ADD_BOXES}"
        )
    if sum(len(control.labels) for control in usable) > max_labels:
        raise LabelingConfigError(
            f"The labeling config has more than {max_labels} labels. Use fewer, or raise "
            "max_labels."
        )
    used = {control.to_name for control in usable}
    return LabelingConfig(
        controls=usable,
        images=tuple(image for image in images if image.name in used),
        prompt_names=_prompt_names(tags, names),
    )


def _parse_xml(xml: str) -> Element:
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
    return root


def _walk(tag: Element, depth: int) -> Iterator[Element]:
    if depth > MAX_DEPTH:
        raise LabelingConfigError(
            f"The labeling config is nested deeper than {MAX_DEPTH} tags. Flatten it."
        )
    yield tag
    for child in tag:
        yield from _walk(child, depth + 1)


def _images(tags: list[Element]) -> Iterator[ImageObject]:
    for tag in tags:
        name, many = tag.get("name"), tag.get("valueList") is not None
        value = tag.get("valueList") if many else tag.get("value")
        if tag.tag == "Image" and name and value:
            yield ImageObject(name, value, many)


def _controls(tag: Element) -> Iterator[RectangleControl]:
    labels = tuple(_label(child) for child in tag.iter("Label") if child.get("value"))
    name = tag.get("name")
    for to_name in (tag.get("toName") or "").split(","):
        if name and labels:
            yield RectangleControl(name, to_name.strip(), labels, _threshold(tag))


def _label(tag: Element) -> Label:
    word = tag.get("value") or ""
    alias = tag.get("alias") or word
    predicted = (part.strip() for part in (tag.get("predicted_values") or "").split(","))
    phrases = tuple(part for part in predicted if part) or (word,)
    return Label(alias, phrases, frozenset(_folded(name) for name in (word, alias, *phrases)))


def _threshold(tag: Element) -> float | None:
    text = tag.get("model_score_threshold")
    if text is None:
        return None
    try:
        threshold = float(text)
    except ValueError:
        threshold = -1
    if not 0 <= threshold <= 1:
        raise LabelingConfigError(
            f'model_score_threshold="{text}" is no number from 0 to 1. Correct it in the labeling '
            "config."
        )
    return threshold


def _prompt_names(tags: list[Element], images: set[str]) -> tuple[str, ...]:
    """Names of the text areas that hold a prompt: the one called "prompt", else the first."""
    names = [
        tag.get("name") or ""
        for tag in tags
        if tag.tag == "TextArea" and tag.get("toName") in images and tag.get("perRegion") != "true"
    ]
    return ("prompt",) if "prompt" in names else tuple(names[:1])


def _look_up(task: Mapping[str, JsonValue], key: str) -> JsonValue:
    if key in task:
        return task[key]
    found: JsonValue = dict(task)
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _folded(name: str) -> str:
    return " ".join(name.casefold().split())
