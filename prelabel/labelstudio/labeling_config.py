"""Labeling config (XML) -> which pictures to look at, what to look for, where the boxes go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from xml.etree.ElementTree import Element

from pydantic import JsonValue

from prelabel.errors import LabelingConfigError, RequestError
from prelabel.labelstudio.config_faults import what_is_missing
from prelabel.labelstudio.config_tree import fill_in, needs_task, parse_tree, to_names
from prelabel.labelstudio.labels import BoxControl, Label, LabelNames
from prelabel.labelstudio.protocol import AskControls
from prelabel.labelstudio.task_variables import resolve
from prelabel.phrases.matching import Step
from prelabel.phrases.names import tidy
from prelabel.types import PromptRequest

_WORDS_PER_LABEL = 10
_MOST_CONTROLS = 5_000  # of all pictures together; a task may have 1,000 pictures
_MOST_WORDS = 50_000  # of the labels of all pictures together
_LONGEST_NAME = 1_000  # characters
_THRESHOLD_WORDS = ("threshold", "thresh", "score", "confidence")


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

    images: those that are drawn on, and by_image: the controls of each, by its name;
    names: what the labels are called;
    thresholds: those that its Number tags begin with; template: what a task fills in, if anything.
    """

    controls: tuple[BoxControl, ...]
    images: tuple[ImageObject, ...]
    by_image: Mapping[str, Sequence[BoxControl]] = field(repr=False, compare=False)
    names: LabelNames = field(repr=False, compare=False)
    ask_controls: AskControls
    prompt_area: PromptArea | None
    thresholds: PromptRequest
    max_labels: int
    template: Element | None = field(repr=False, compare=False)

    def controls_of(self, image: ImageObject) -> Sequence[BoxControl]:
        """The control tags that draw on this picture."""
        return self.by_image[image.name]

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
    _check_names(tags)
    images = _images(tags)
    by_tag = list(_controls(tags, images, max_labels, filled_in))
    if not by_tag:
        raise LabelingConfigError(f"The labeling config {what_is_missing(tags, images)}")
    by_image: dict[str, list[BoxControl]] = {}
    controls = tuple(control for of_tag in by_tag for control in of_tag)
    for control in controls:
        by_image.setdefault(control.to_name, []).append(control)
    area = _prompt_area(tags, images)
    box, text = _threshold_tags(tags, area)
    return LabelingConfig(
        controls=controls,
        images=tuple(image for image in images.values() if image.name in by_image),
        by_image=by_image,
        names=LabelNames(by_tag),
        ask_controls=AskControls(
            prompt=area.name if area else "prompt",
            box_threshold="box_threshold" if box is None else box.get("name", ""),
            text_threshold="text_threshold" if text is None else text.get("name", ""),
        ),
        prompt_area=area,
        thresholds=PromptRequest(
            None, _fraction(box, "defaultValue"), _fraction(text, "defaultValue")
        ),
        max_labels=max_labels,
        template=tree if not filled_in and needs_task(tree) else None,
    )


def _images(tags: Sequence[Element]) -> dict[str, ImageObject]:
    """By their names; of two of one name, the first."""
    images: dict[str, ImageObject] = {}
    for tag in tags:
        name, many = tag.get("name"), tag.get("valueList") is not None
        value = tag.get("valueList") if many else tag.get("value")
        if tag.tag == "Image" and name and value:
            images.setdefault(name, ImageObject(name, value, many))
    return images


def _check_names(tags: Sequence[Element]) -> None:
    """Each box repeats them."""
    names = (tag.get(attribute) or "" for tag in tags for attribute in ("name", "alias"))
    values = (tag.get("value") or "" for tag in tags if tag.tag == "Label")
    if any(len(name) > _LONGEST_NAME for name in (*names, *values)):
        raise LabelingConfigError(
            f"The labeling config has a name longer than {_LONGEST_NAME} characters. Shorten it."
        )


class _Room:
    """How many labels there may be, counted before any of them is read: a config has room for tens
    of thousands, and a control tag for many pictures multiplies them.
    """

    def __init__(self, max_labels: int) -> None:
        self._max_labels = max_labels
        self._labels: Counter[str] = Counter()  # of each picture
        self._words: Counter[str] = Counter()
        self._controls = 0

    def take(self, tag: Element, images: Collection[str]) -> None:
        """Count a control tag's labels for each of these pictures. Raises LabelingConfigError."""
        labels = [each for each in tag.iter("Label") if (each.get("value") or "").strip()]
        words = sum(1 + (each.get("predicted_values") or "").count(",") for each in labels)
        words += sum(len(_listed(each, "negative_values")) for each in (tag, *labels))
        self._controls += len(images)
        for image in images:
            self._labels[image] += len(labels)
            self._words[image] += words
            if (
                self._labels[image] > self._max_labels
                or self._words[image] > self._max_labels * _WORDS_PER_LABEL
            ):
                raise LabelingConfigError(
                    f"The labeling config has more than {self._max_labels} labels for one picture, "
                    f"or {_WORDS_PER_LABEL} times as many predicted_values and negative_values. "
                    "Use fewer, or raise prompts.max_labels."
                )
        most_words = max(_MOST_WORDS, self._max_labels * _WORDS_PER_LABEL)
        if self._controls > _MOST_CONTROLS or self._words.total() > most_words:
            raise LabelingConfigError(
                f"For all pictures together, the labeling config has more than {_MOST_CONTROLS} "
                f"control tags, or {most_words} labels and their values. Use fewer, or split "
                "what has many pages into several tasks."
            )


def _controls(
    tags: Sequence[Element], images: Container[str], max_labels: int, filled_in: bool
) -> Iterator[tuple[BoxControl, ...]]:
    """The controls of each control tag, one for each picture that it draws on."""
    rectangles: dict[str, str] = {}
    for tag in tags:
        if tag.tag == "Rectangle" and (name := tag.get("name")):
            for to_name in to_names(tag):
                rectangles.setdefault(to_name, name)
    seen: set[tuple[str, str]] = set()
    room = _Room(max_labels)
    for tag in tags:
        name = tag.get("name")
        if tag.tag not in ("RectangleLabels", "Labels") or not name:
            continue
        pictures = [each for each in to_names(tag) if each in images]
        drawn: dict[str, str | None] = dict.fromkeys(pictures)
        if tag.tag == "Labels":
            drawn = {each: rectangles[each] for each in pictures if each in rectangles}
        new = {each: by for each, by in drawn.items() if (name, each) not in seen}
        if not new:  # reading its labels is most of the work
            continue
        room.take(tag, new)
        labels = _labels(tag)
        if labels or (not filled_in and needs_task(tag)):
            seen.update((name, each) for each in new)
            threshold = _score_threshold(tag)
            negatives = _listed(tag, "negative_values")
            yield tuple(
                BoxControl(name, to, labels, threshold, by, negatives) for to, by in new.items()
            )


def _labels(tag: Element) -> tuple[Label, ...]:
    labels = (_label(child) for child in tag.iter("Label") if (child.get("value") or "").strip())
    distinct: dict[str, Label] = {}
    for label in labels:
        known = distinct.get(label.value)  # the same label twice, or several values of one alias
        distinct[label.value] = known.merged_with(label) if known else label
    return tuple(distinct.values())


def _label(tag: Element) -> Label:
    word = (tag.get("value") or "").strip()
    value = tag.get("alias") or tag.get("value") or ""
    predicted = _listed(tag, "predicted_values")
    names = dict.fromkeys(map(tidy, predicted), Step.PREDICTED_VALUE)
    names |= {tidy(value): Step.ALIAS, tidy(word): Step.SPELLED}
    return Label(
        value,
        predicted or (word,),
        names,
        _listed(tag, "negative_values"),
        _score_threshold(tag),
    )


def _listed(tag: Element, attribute: str) -> tuple[str, ...]:
    """The attribute's values, which stand with commas between them."""
    parts = (part.strip() for part in (tag.get(attribute) or "").split(","))
    return tuple(part for part in parts if part)


def _score_threshold(tag: Element) -> float | None:
    """None where the attribute is missing or empty, as forms leave it."""
    threshold = _fraction(tag, "model_score_threshold")
    if threshold is None and (tag.get("model_score_threshold") or "").strip():
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


def _prompt_area(tags: Sequence[Element], images: Container[str]) -> PromptArea | None:
    """The text area called "prompt"; else one with "prompt" in its name; else the first."""
    areas = [tag for tag in tags if tag.tag == "TextArea" and _is_asked_once(tag, images)]
    areas.sort(key=lambda tag: _closeness(tag.get("name", ""), "prompt"))
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


def _is_asked_once(tag: Element, images: Container[str]) -> bool:
    """Whether it is asked for the whole picture, and not for each region."""
    per_part = "true" in (tag.get("perRegion"), tag.get("perItem"))
    on_picture = any(name in images for name in to_names(tag))
    return bool(tag.get("name")) and not per_part and on_picture


def _closeness(name: str, wanted: str) -> int:
    return 0 if name == wanted else 1 if wanted in name.lower() else 2
