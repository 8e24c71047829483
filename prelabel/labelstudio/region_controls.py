"""The control tags of a labeling config that draw labelled boxes and masks, with their labels."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from types import MappingProxyType
from xml.etree.ElementTree import Element

from prelabel.errors import LabelingConfigError
from prelabel.labelstudio.config_tree import depends_on_task, fraction_of, to_names
from prelabel.labelstudio.labels import Label, RegionControl
from prelabel.labelstudio.shapes import DRAWING_TAGS, LABEL_TAGS, Shape
from prelabel.phrases.matching import Step
from prelabel.phrases.names import tidy

_WORDS_PER_LABEL = 10
# Limits for all pictures together. `prompts.max_labels` alone bounds neither, because a task may
# have 1,000 pictures, and each of them its own controls.
_MOST_CONTROLS = 5_000
_MOST_WORDS = 50_000  # labels with their predicted_values and negative_values


def region_controls(
    tags: Sequence[Element], images: Container[str], max_labels: int, *, filled_in: bool
) -> Iterator[tuple[RegionControl, ...]]:
    """Yield for each control tag its controls, one for each picture that it draws on.

    Args:
        tags: All tags of the config.
        images: Names of the valid Image tags.
        max_labels: The most labels for one picture.
        filled_in: True if the config contains the task's labels already. Else control tags that
            get their labels from the task are yielded without labels.

    Raises:
        LabelingConfigError: The tags have too many labels, or an invalid threshold.
    """
    drawing_tags = _drawing_tags(tags)
    seen: set[tuple[str, str]] = set()
    budget = _LabelBudget(max_labels)
    for tag in tags:
        name = tag.get("name")
        if tag.tag not in LABEL_TAGS or not name:
            continue
        drawn_on = [each for each in to_names(tag) if each in images]
        shape = LABEL_TAGS[tag.tag]
        # Labels have no shape of their own: they label the regions that other tags draw.
        shapes_of = {each: {shape: None} if shape else drawing_tags[each] for each in drawn_on}
        new = {to: shapes for to, shapes in shapes_of.items() if shapes and (name, to) not in seen}
        if not new:  # parsing the labels takes most of the time
            continue
        budget.spend(tag, new)
        labels = _labels(tag)
        if labels or (not filled_in and depends_on_task(tag)):
            seen.update((name, to) for to in new)
            threshold = _score_threshold(tag)
            negatives = _split_values(tag, "negative_values")
            yield tuple(
                RegionControl(name, to, labels, threshold, MappingProxyType(shapes), negatives)
                for to, shapes in new.items()
            )


def _drawing_tags(tags: Sequence[Element]) -> Mapping[str, dict[Shape, str | None]]:
    """Return for each Image tag, by name, the first tag of each shape that draws on it."""
    found: defaultdict[str, dict[Shape, str | None]] = defaultdict(dict)
    for tag in tags:
        if tag.tag in DRAWING_TAGS and (name := tag.get("name")):
            for to_name in to_names(tag):
                found[to_name].setdefault(DRAWING_TAGS[tag.tag], name)
    return found


class _LabelBudget:
    """The limits of a config's labels, checked before any label is parsed.

    A config of the longest accepted length has tens of thousands of labels, and a control tag for
    many pictures multiplies them.
    """

    def __init__(self, max_labels: int) -> None:
        self._max_labels = max_labels
        self._labels: Counter[str] = Counter()  # by name of the Image tag
        self._words: Counter[str] = Counter()
        self._controls = 0

    def spend(self, tag: Element, images: Collection[str]) -> None:
        """Count a control tag's labels for each of these pictures. Raises LabelingConfigError."""
        labels = [each for each in tag.iter("Label") if (each.get("value") or "").strip()]
        words = sum(1 + (each.get("predicted_values") or "").count(",") for each in labels)
        words += sum(len(_split_values(each, "negative_values")) for each in (tag, *labels))
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
                "tasks of many pages into several tasks."
            )


def _labels(tag: Element) -> tuple[Label, ...]:
    labels = (_label(child) for child in tag.iter("Label") if (child.get("value") or "").strip())
    distinct: dict[str, Label] = {}
    for label in labels:
        # A label may occur twice, and several values may have one alias.
        known = distinct.get(label.value)
        distinct[label.value] = known.merged_with(label) if known else label
    return tuple(distinct.values())


def _label(tag: Element) -> Label:
    word = (tag.get("value") or "").strip()
    # Not stripped: regions carry the label as it is spelled in the config.
    value = tag.get("alias") or tag.get("value") or ""
    predicted = _split_values(tag, "predicted_values")
    names = dict.fromkeys(map(tidy, predicted), Step.PREDICTED_VALUE)
    # Later entries override earlier ones: an equal value is reported before an alias.
    names |= {tidy(value): Step.ALIAS, tidy(word): Step.SPELLED}
    return Label(
        value,
        word,
        predicted or (word,),
        names,
        _split_values(tag, "negative_values"),
        _score_threshold(tag),
    )


def _split_values(tag: Element, attribute: str) -> tuple[str, ...]:
    """Return the attribute's comma-separated values."""
    parts = (part.strip() for part in (tag.get(attribute) or "").split(","))
    return tuple(part for part in parts if part)


def _score_threshold(tag: Element) -> float | None:
    """Return `model_score_threshold`; None if it is missing or empty, as forms leave it."""
    threshold = fraction_of(tag, "model_score_threshold")
    if threshold is None and (tag.get("model_score_threshold") or "").strip():
        raise LabelingConfigError(
            f'model_score_threshold="{tag.get("model_score_threshold")}" is not a number from 0 to '
            "1. Correct it in the labeling config."
        )
    return threshold
