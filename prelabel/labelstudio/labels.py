"""The labels of a labeling config, and the names by which a prompt can refer to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from prelabel.labelstudio.shapes import Shape
from prelabel.phrases.matching import NameIndex, Step


@dataclass(frozen=True, slots=True)
class Label:
    """A label of a control tag.

    Attributes:
        value: The label in regions; the alias if there is one, as in Label Studio.
        word: The label as the page shows it, without spaces around it.
        phrases: Phrases to look for without a prompt: its `predicted_values`, or its value.
        names: The tidy names by which a prompt can refer to it, each with the step that an equal
            spelling is reported as.
        negatives: Its `negative_values`: searched for beside it, and their boxes dropped.
        score_threshold: Its `model_score_threshold`.
    """

    value: str
    word: str
    phrases: tuple[str, ...]
    names: Mapping[str, Step] = field(hash=False)  # a dict is not hashable
    negatives: tuple[str, ...] = ()
    score_threshold: float | None = None

    def merged_with(self, other: Label) -> Label:
        """Return one label for two that have the same value."""
        return Label(
            self.value,
            self.word,
            tuple(dict.fromkeys(self.phrases + other.phrases)),
            {**other.names, **self.names},
            tuple(dict.fromkeys(self.negatives + other.negatives)),
            other.score_threshold if self.score_threshold is None else self.score_threshold,
        )


@dataclass(frozen=True, slots=True)
class RegionControl:
    """A control tag that draws labelled boxes or masks on one object tag.

    Attributes:
        from_name: Name of the tag that has the labels: RectangleLabels, BrushLabels, Labels, ...
        to_name: Name of the Image tag.
        labels: The labels in it.
        score_threshold: Its `model_score_threshold`.
        shapes: The shapes of its regions. For a Labels tag, each with the name of the tag that
            draws it, such as a Rectangle; None for tags that draw their regions themselves.
        negatives: Its `negative_values`.
    """

    from_name: str
    to_name: str
    labels: tuple[Label, ...]
    score_threshold: float | None = None
    shapes: Mapping[Shape, str | None] = field(
        default_factory=lambda: MappingProxyType({"rectangle": None}), hash=False
    )
    negatives: tuple[str, ...] = ()

    @property
    def draws_boxes(self) -> bool:
        """True if the tag draws boxes, alone or beside masks."""
        return "rectangle" in self.shapes

    def labels_by_name(self) -> Mapping[str, Label]:
        """Return the labels by value, and by word where no label has it as its value.

        Two tags may have one label under different aliases.
        """
        words = {label.word: label for label in self.labels}
        return words | {label.value: label for label in self.labels}


def has_masks(control: RegionControl) -> bool:
    """Return True if a control tag draws masks."""
    return any(shape != "rectangle" for shape in control.shapes)


def boxes_only(controls: Sequence[RegionControl]) -> tuple[RegionControl, ...]:
    """Return the controls that draw boxes, without their masks."""
    return tuple(
        replace(control, shapes=MappingProxyType({"rectangle": control.shapes["rectangle"]}))
        for control in controls
        if control.draws_boxes
    )


@dataclass(frozen=True, slots=True)
class LabelTarget:
    """The label and control tag that boxes are assigned to.

    Attributes:
        control: The control tag.
        label: None for boxes without a label.
        name: The name of the label that the phrase matched; "" if the phrase is not its name.
    """

    control: RegionControl
    label: Label | None
    name: str = ""


@dataclass(frozen=True, slots=True)
class LabelMatch:
    """The label that a phrase refers to.

    Attributes:
        targets: The label on each picture, by the name of the Image tag; empty without a match.
        step: The step that found the closest label.
        distinct_targets: The first target for each pair of label and name.
    """

    targets: Mapping[str, LabelTarget]
    step: Step
    distinct_targets: Sequence[LabelTarget] = ()


class LabelNames:
    """The labels of a config, by the names that a prompt can use.

    Attributes:
        all: Every name of every label.
        values: The distinct values of the labels, in the order of the config.
    """

    def __init__(self, tags: Sequence[Sequence[RegionControl]]) -> None:
        """Index the labels of control tags.

        Args:
            tags: For each control tag its controls, one for each picture that it draws on.
        """
        self._tags = tags
        self._index = NameIndex(
            (name, step, (number, label, name))
            for number, controls in enumerate(tags)
            for label in controls[0].labels
            for name, step in label.names.items()
        )
        self._image_count = len({control.to_name for controls in tags for control in controls})
        labels = [label for controls in tags for label in controls[0].labels]
        self.all = frozenset(name for label in labels for name in label.names)
        self.values = tuple(dict.fromkeys(label.value for label in labels))

    @property
    def has_one_label(self) -> bool:
        """True if the config has exactly one label, which then matches every phrase of a prompt."""
        return len(self.values) == 1

    def find(self, phrase: str) -> LabelMatch:
        """Return the closest label for a phrase on each picture."""
        targets: dict[str, LabelTarget] = {}
        distinct: list[LabelTarget] = []
        closest = Step.UNLABELLED
        for step, (number, label, name) in self._index.find(phrase):
            controls = [each for each in self._tags[number] if each.to_name not in targets]
            if controls:
                closest = closest if targets else step
                new = [LabelTarget(control, label, name) for control in controls]
                targets |= {target.control.to_name: target for target in new}
                distinct.append(new[0])
            # Later steps cannot change a target: the search is lazy, and this ends it.
            if len(targets) == self._image_count:
                break
        return LabelMatch(targets, closest, distinct)

    def first_labels(self, step: Step) -> LabelMatch:
        """Return the first label on each picture, of its first control tag that has labels."""
        targets: dict[str, LabelTarget] = {}
        for controls in self._tags:
            for control in controls:
                if control.labels:
                    label = control.labels[0]
                    targets.setdefault(control.to_name, LabelTarget(control, label))
        return LabelMatch(targets, step)

    def unlabelled(self) -> LabelMatch:
        """Return targets for boxes without a label, in each picture's first control tag."""
        targets: dict[str, LabelTarget] = {}
        for controls in self._tags:
            for control in controls:
                targets.setdefault(control.to_name, LabelTarget(control, None))
        return LabelMatch(targets, Step.UNLABELLED)
