"""Labeling config (XML) -> which pictures to look at, what to look for, where the boxes go."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from xml.etree.ElementTree import Element

from pydantic import JsonValue

from prelabel.captions import normalise_phrase
from prelabel.errors import LabelingConfigError, RequestError
from prelabel.labelstudio.config_tree import fill_in, needs_task, parse_tree
from prelabel.labelstudio.protocol import AskControls
from prelabel.labelstudio.task_values import resolve
from prelabel.names import fold
from prelabel.types import Asked

_HOW_TO_ADD_BOXES = (
    'Add <Image name="image" value="$image"/> and '
    '<RectangleLabels name="label" toName="image"><Label value="cat"/></RectangleLabels>.'
)
_NOT_BOXES = (
    "BrushLabels",
    "PolygonLabels",
    "EllipseLabels",
    "KeyPointLabels",
    "BitmaskLabels",
    "VectorLabels",
)
_NOT_PICTURES = ("Text", "HyperText", "Audio", "Video", "Paragraphs", "TimeSeries", "Pdf", "Chat")
_WORDS_PER_LABEL = 10
_LONGEST_NAME = 1_000  # characters
_THRESHOLD_WORDS = ("threshold", "thresh", "score", "confidence")


@dataclass(frozen=True, slots=True)
class Label:
    """A value of a control tag.

    value: what regions carry (the alias, where there is one, as Label Studio does);
    phrases: what to look for when there is no prompt; names: what a prompt may call it, folded,
    and captions: how these stand in captions; score_threshold: its `model_score_threshold`.
    """

    value: str
    phrases: tuple[str, ...]
    names: frozenset[str]
    captions: frozenset[str]
    score_threshold: float | None = None


@dataclass(frozen=True, slots=True)
class BoxControl:
    """A control tag that draws labelled boxes on one object tag.

    RectangleLabels; or Labels beside a Rectangle, whose name is `rectangle_name` then.
    score_threshold: its `model_score_threshold`.
    """

    from_name: str
    to_name: str
    labels: tuple[Label, ...]
    score_threshold: float | None = None
    rectangle_name: str | None = None

    def label_named(self, phrase: str) -> Label | None:
        """The label that a prompt means by this phrase; case and what a caption drops (".", "?",
        accents' spelling) do not matter, but the closer name wins.
        """
        name, caption = fold(phrase), normalise_phrase(phrase)
        same = (label for label in self.labels if name in label.names)
        close = (label for label in self.labels if caption in label.captions)
        return next(same, None) or next(close, None)


@dataclass(frozen=True, slots=True)
class ImageObject:
    """An Image tag: its name, and where a task keeps the picture's address.

    many: the task keeps a list of addresses there (`valueList`).
    """

    name: str
    value: str
    many: bool

    def uris(self, task: Mapping[str, JsonValue]) -> tuple[str, ...]:
        """Addresses of the task's pictures: one, or several for a `valueList`; none where the
        task leaves them out.
        """
        found = resolve(self.value, task)
        uris = found if self.many and isinstance(found, list) else [found]
        if not [uri for uri in uris if uri not in (None, "")]:
            return ()
        texts = tuple(uri.strip() for uri in uris if isinstance(uri, str) and uri.strip())
        if len(texts) != len(uris):
            raise RequestError(
                f"What the task has under {self.value!r} is no picture's address. Import the task "
                "with an address in that field" + (", or a list of them." if self.many else ".")
            )
        return texts


@dataclass(frozen=True, slots=True)
class PromptArea:
    """The text area that holds the prompt.

    value: what a task fills it with (`$field`), if anything; repeatable: whether it takes several
    texts, so that it still shows when a prediction holds one.
    """

    name: str
    to_name: str
    value: str
    repeatable: bool


@dataclass(frozen=True, slots=True)
class LabelingConfig:
    """What a project's config asks for.

    thresholds: those that its Number tags begin with; template: what a task fills in, if anything.
    """

    controls: tuple[BoxControl, ...]
    images: tuple[ImageObject, ...]
    ask_controls: AskControls
    prompt_area: PromptArea | None
    thresholds: Asked
    max_labels: int
    template: Element | None = field(repr=False, compare=False)

    def controls_of(self, image: ImageObject) -> tuple[BoxControl, ...]:
        """The control tags that draw on this picture."""
        return tuple(control for control in self.controls if control.to_name == image.name)

    def for_task(self, data: Mapping[str, JsonValue]) -> LabelingConfig:
        """With what the config takes from a task: labels from its data, repeated tags.

        Raises LabelingConfigError where the task gives it no label.
        """
        if self.template is None:
            return self
        return _read(fill_in(self.template, data), self.max_labels, filled_in=True)

    def prompt_of(self, data: Mapping[str, JsonValue]) -> str | None:
        """The prompt that the task brings along."""
        found = resolve(self.prompt_area.value, data) if self.prompt_area else None
        return found.strip() or None if isinstance(found, str) else None


@lru_cache(maxsize=32)
def parse_labeling_config(xml: str, max_labels: int) -> LabelingConfig:
    """Parse a labeling config.

    Raises LabelingConfigError if it is not XML, too large, or draws no labelled boxes on an Image.
    """
    return _read(parse_tree(xml), max_labels, filled_in=False)


def _read(tree: Element, max_labels: int, *, filled_in: bool) -> LabelingConfig:
    tags = list(tree.iter())
    images = tuple(_images(tags))
    names = [image.name for image in images]
    _check_labels(tags, max_labels)
    controls: list[BoxControl] = []
    for control in _controls(tags, frozenset(names), filled_in):
        controls.append(control)
        if sum(len(each.labels) for each in controls) > max_labels:
            raise _too_many_labels(max_labels)
    if not controls:
        raise LabelingConfigError(f"The labeling config {_what_is_missing(tags, names)}")
    used = {control.to_name for control in controls}
    area = _prompt_area(tags, names)
    box, text = _threshold_tags(tags, area)
    return LabelingConfig(
        controls=tuple(controls),
        images=tuple(image for image in images if image.name in used),
        ask_controls=AskControls(
            prompt=area.name if area else "prompt",
            box_threshold="box_threshold" if box is None else box.get("name", ""),
            text_threshold="text_threshold" if text is None else text.get("name", ""),
        ),
        prompt_area=area,
        thresholds=Asked(None, _fraction(box, "defaultValue"), _fraction(text, "defaultValue")),
        max_labels=max_labels,
        template=tree if not filled_in and needs_task(tree) else None,
    )


def _images(tags: Sequence[Element]) -> Iterator[ImageObject]:
    for tag in tags:
        name, many = tag.get("name"), tag.get("valueList") is not None
        value = tag.get("valueList") if many else tag.get("value")
        if tag.tag == "Image" and name and value:
            yield ImageObject(name, value, many)


def _check_labels(tags: Sequence[Element], max_labels: int) -> None:
    """Before any of them is read: a config has room for tens of thousands."""
    labels = [tag for tag in tags if tag.tag == "Label" and (tag.get("value") or "").strip()]
    words = sum(1 + (tag.get("predicted_values") or "").count(",") for tag in labels)
    if len(labels) > max_labels or words > max_labels * _WORDS_PER_LABEL:
        raise _too_many_labels(max_labels)
    names = (tag.get(attribute) or "" for tag in tags for attribute in ("name", "alias"))
    values = (label.get("value") or "" for label in labels)
    if any(len(name) > _LONGEST_NAME for name in (*names, *values)):  # each box repeats them
        raise LabelingConfigError(
            f"The labeling config has a name longer than {_LONGEST_NAME} characters. Shorten it."
        )


def _too_many_labels(max_labels: int) -> LabelingConfigError:
    return LabelingConfigError(
        f"The labeling config has more than {max_labels} labels, or {_WORDS_PER_LABEL} times as "
        "many predicted_values. Use fewer, or raise max_labels."
    )


def _controls(
    tags: Sequence[Element], images: Collection[str], filled_in: bool
) -> Iterator[BoxControl]:
    rectangles: dict[str, str] = {}
    for tag in tags:
        if tag.tag == "Rectangle":
            for to_name in _to_names(tag):
                rectangles.setdefault(to_name, tag.get("name", ""))
    seen: set[tuple[str, str]] = set()
    for tag in tags:
        name = tag.get("name")
        if tag.tag not in ("RectangleLabels", "Labels") or not name:
            continue
        to_names = dict.fromkeys(each for each in _to_names(tag) if each in images)
        drawn: dict[str, str | None] = dict.fromkeys(to_names)
        if tag.tag == "Labels":
            drawn = {each: rectangles[each] for each in to_names if rectangles.get(each)}
        new = {each: by for each, by in drawn.items() if (name, each) not in seen}
        if not new:  # reading its labels is most of the work
            continue
        labels = _labels(tag)
        if labels or (not filled_in and needs_task(tag)):
            seen.update((name, each) for each in new)
            for to_name, rectangle in new.items():
                yield BoxControl(name, to_name, labels, _score_threshold(tag), rectangle)


def _labels(tag: Element) -> tuple[Label, ...]:
    labels = (_label(child) for child in tag.iter("Label") if (child.get("value") or "").strip())
    distinct: dict[str, Label] = {}
    for label in labels:
        known = distinct.setdefault(label.value, label)
        if known is not label:  # the same label twice, or several values of one alias
            distinct[label.value] = Label(
                label.value,
                tuple(dict.fromkeys(known.phrases + label.phrases)),
                known.names | label.names,
                known.captions | label.captions,
                label.score_threshold if known.score_threshold is None else known.score_threshold,
            )
    return tuple(distinct.values())


def _label(tag: Element) -> Label:
    word = (tag.get("value") or "").strip()
    value = tag.get("alias") or tag.get("value") or ""
    predicted = (part.strip() for part in (tag.get("predicted_values") or "").split(","))
    phrases = tuple(part for part in predicted if part) or (word,)
    names = frozenset(fold(name) for name in (word, value, *phrases))
    captions = frozenset(normalise_phrase(name) for name in names) - {""}
    return Label(value, phrases, names, captions, _score_threshold(tag))


def _to_names(tag: Element) -> tuple[str, ...]:
    return tuple(name.strip() for name in (tag.get("toName") or "").split(",") if name.strip())


def _score_threshold(tag: Element) -> float | None:
    threshold = _fraction(tag, "model_score_threshold")
    if threshold is None and tag.get("model_score_threshold") is not None:
        raise LabelingConfigError(
            f'model_score_threshold="{tag.get("model_score_threshold")}" is no number from 0 to 1. '
            "Correct it in the labeling config."
        )
    return threshold


def _fraction(tag: Element | None, attribute: str) -> float | None:
    """The attribute's value, where it is a number from 0 to 1."""
    try:
        number = float(tag.get(attribute, "")) if tag is not None else None
    except ValueError:
        return None
    return number if number is not None and 0 <= number <= 1 else None


def _prompt_area(tags: Sequence[Element], images: Sequence[str]) -> PromptArea | None:
    """The text area called "prompt"; else one with "prompt" in its name; else the first."""
    areas = [tag for tag in tags if tag.tag == "TextArea" and _is_asked_once(tag, images)]
    areas.sort(key=lambda tag: _closeness(tag.get("name", ""), "prompt"))
    if not areas:
        return None
    tag = areas[0]
    to_name = next(name for name in _to_names(tag) if name in images)
    value = tag.get("value", "")
    return PromptArea(
        tag.get("name", ""),
        to_name,
        value if "$" in value else "",
        repeatable=tag.get("maxSubmissions") != "1",
    )


def _threshold_tags(
    tags: Sequence[Element], area: PromptArea | None
) -> tuple[Element | None, Element | None]:
    """The Number tags that hold the box and the text threshold: by their names; where no name
    tells, and there is a prompt for them to go with, by their bounds.
    """
    numbers = [tag for tag in tags if tag.tag == "Number" and _may_be_threshold(tag)]
    named = [tag for tag in numbers if _is_called_threshold(tag)]
    if not named and area is not None and "prompt" in area.name.lower():
        named = [t for t in numbers if (_fraction(t, "min"), _fraction(t, "max")) == (0, 1)]
    text = [tag for tag in named if "text" in tag.get("name", "").lower()]
    box = [tag for tag in named if "text" not in tag.get("name", "").lower()]
    box.sort(key=lambda tag: _closeness(tag.get("name", ""), "box_threshold"))
    text.sort(key=lambda tag: _closeness(tag.get("name", ""), "text_threshold"))
    return next(iter(box), None), next(iter(text), None)


def _may_be_threshold(tag: Element) -> bool:
    """Whether it is one number of the picture; one from 1 to 5, or to 100, is something else."""
    fits = all(not tag.get(bound) or _fraction(tag, bound) is not None for bound in ("min", "max"))
    wide = _fraction(tag, "min") != 1 and _fraction(tag, "max") != 0
    return bool(tag.get("name")) and tag.get("perRegion") != "true" and fits and wide


def _is_called_threshold(tag: Element) -> bool:
    return any(word in tag.get("name", "").lower() for word in _THRESHOLD_WORDS)


def _is_asked_once(tag: Element, images: Sequence[str]) -> bool:
    """Whether it is asked for the whole picture, and not for each region."""
    per_part = "true" in (tag.get("perRegion"), tag.get("perItem"))
    return bool(tag.get("name")) and not per_part and bool(set(_to_names(tag)) & set(images))


def _closeness(name: str, wanted: str) -> int:
    return 0 if name == wanted else 1 if wanted in name.lower() else 2


def _what_is_missing(tags: Sequence[Element], images: Sequence[str]) -> str:
    """Why a config cannot be served, and what to add."""
    if not images:
        if any(tag.tag == "Image" for tag in tags):
            return 'has an Image without name or value. Write <Image name="image" value="$image"/>.'
        shown = next((tag.tag for tag in tags if tag.tag in _NOT_PICTURES), None)
        shows = f" (it shows {shown})" if shown else ""
        return f"has no Image{shows}, and boxes need a picture. {_HOW_TO_ADD_BOXES}"
    drawn = [tag for tag in tags if tag.tag == "RectangleLabels"]
    for tag in drawn:
        return _what_is_wrong(tag, images)
    if any(tag.tag == "Rectangle" for tag in tags):
        return (
            "has a Rectangle, but no Labels for the same Image. Add "
            f'<Labels name="label" toName="{images[0]}"><Label value="cat"/></Labels>.'
        )
    other = next((tag.tag for tag in tags if tag.tag in _NOT_BOXES), None)
    has = f"has {other}, but no RectangleLabels" if other else "has no RectangleLabels"
    return (
        f"{has} for boxes on its Image. Add "
        f'<RectangleLabels name="boxes" toName="{images[0]}"><Label value="cat"/>'
        "</RectangleLabels>."
    )


def _what_is_wrong(tag: Element, images: Sequence[str]) -> str:
    """Why a RectangleLabels draws nothing."""
    name = tag.get("name")
    if not name:
        return 'has RectangleLabels without a name. Write <RectangleLabels name="label" ...>.'
    if not set(_to_names(tag)) & set(images):
        return (
            f'has RectangleLabels name="{name}" with toName="{tag.get("toName") or ""}", and no '
            f'Image of that name. Write toName="{images[0]}".'
        )
    source = tag.get("value") or ""
    if "$" in source:
        return (
            f'takes the labels of RectangleLabels name="{name}" from {source}, where the task has '
            'none. Import it with a list there: [{"value": "cat"}].'
        )
    return f'has RectangleLabels name="{name}" without labels. Put <Label value="cat"/> into it.'
