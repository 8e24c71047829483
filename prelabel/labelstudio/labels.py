"""The labels of a labeling config, and what a prompt may call them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from prelabel.phrases.matching import NameIndex, Step


@dataclass(frozen=True, slots=True)
class Label:
    """A value of a control tag.

    value: what regions carry (the alias, where there is one, as Label Studio does);
    phrases: what to look for when there is no prompt; negatives: what to look for beside it and
    leave out, its `negative_values`; names: what a prompt may call it, tidy, each with how an equal
    spelling is called; score_threshold: its `model_score_threshold`.
    """

    value: str
    phrases: tuple[str, ...]
    names: Mapping[str, Step] = field(hash=False)
    negatives: tuple[str, ...] = ()
    score_threshold: float | None = None

    def merged_with(self, other: Label) -> Label:
        """One label of two that have the same value."""
        own = self.score_threshold
        return Label(
            self.value,
            tuple(dict.fromkeys(self.phrases + other.phrases)),
            {**other.names, **self.names},
            tuple(dict.fromkeys(self.negatives + other.negatives)),
            other.score_threshold if own is None else own,
        )


@dataclass(frozen=True, slots=True)
class BoxControl:
    """A control tag that draws labelled boxes on one object tag.

    RectangleLabels; or Labels beside a Rectangle, whose name is `rectangle_name` then.
    score_threshold: its `model_score_threshold`; negatives: its `negative_values`.
    """

    from_name: str
    to_name: str
    labels: tuple[Label, ...]
    score_threshold: float | None = None
    rectangle_name: str | None = None
    negatives: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelTarget:
    """Where boxes go: to a label of a control tag.

    label: None for boxes without one; name: the one of the label's names that the phrase means.
    """

    control: BoxControl
    label: Label | None
    name: str = ""


@dataclass(frozen=True, slots=True)
class LabelMatch:
    """The label that a phrase means, by the name of the picture; empty where it means none.

    step: how the closest of them was found; named: of targets of one label and name, the first.
    """

    targets: Mapping[str, LabelTarget]
    step: Step
    named: Sequence[LabelTarget] = ()


class LabelNames:
    """Finds labels by what a prompt calls them. all: every name of every label.

    tags: the controls of each control tag, one for each picture that it draws on.
    """

    def __init__(self, tags: Sequence[Sequence[BoxControl]]) -> None:
        self._tags = tags
        self._index = NameIndex(
            (name, step, (number, label, name))
            for number, controls in enumerate(tags)
            for label in controls[0].labels
            for name, step in label.names.items()
        )
        self._pictures = len({control.to_name for controls in tags for control in controls})
        labels = [label for controls in tags for label in controls[0].labels]
        self.all = frozenset(name for label in labels for name in label.names)
        self.values = tuple(dict.fromkeys(label.value for label in labels))

    @property
    def has_one_label(self) -> bool:
        """Whether the project has exactly one label, which every phrase means then."""
        return len(self.values) == 1

    def called(self, phrase: str) -> LabelMatch:
        """The label that a prompt means by this phrase, on each picture the closest one."""
        targets: dict[str, LabelTarget] = {}
        named: list[LabelTarget] = []
        closest = Step.UNLABELLED
        for step, (number, label, name) in self._index.find(phrase):
            new = [each for each in self._tags[number] if each.to_name not in targets]
            if new:
                closest = closest if targets else step
                found = [LabelTarget(control, label, name) for control in new]
                targets |= {target.control.to_name: target for target in found}
                named.append(found[0])
            if len(targets) == self._pictures:
                break
        return LabelMatch(targets, closest, named)

    def first(self, step: Step) -> LabelMatch:
        """The first label of each picture, in its first control that has one."""
        targets: dict[str, LabelTarget] = {}
        for controls in self._tags:
            for control in controls:
                if control.labels:
                    label = control.labels[0]
                    targets.setdefault(control.to_name, LabelTarget(control, label))
        return LabelMatch(targets, step)

    def unlabelled(self) -> LabelMatch:
        """Boxes without a label, in each picture's first control."""
        targets: dict[str, LabelTarget] = {}
        for controls in self._tags:
            for control in controls:
                targets.setdefault(control.to_name, LabelTarget(control, None))
        return LabelMatch(targets, Step.UNLABELLED)
