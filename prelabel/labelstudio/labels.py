"""The labels of a labeling config, and what a prompt may call them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prelabel.captions import normalise_phrase
from prelabel.names import fold, tidy


@dataclass(frozen=True, slots=True)
class Label:
    """A value of a control tag.

    value: what regions carry (the alias, where there is one, as Label Studio does);
    phrases: what to look for when there is no prompt; names: what a prompt may call it, tidy;
    score_threshold: its `model_score_threshold`.
    """

    value: str
    phrases: tuple[str, ...]
    names: frozenset[str]
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


Place = tuple[BoxControl, Label]  # where boxes go


class LabelNames:
    """Finds labels by what a prompt calls them. all: every name of every label.

    tags: the controls of each control tag, one for each picture that it draws on.
    """

    def __init__(self, tags: Sequence[Sequence[BoxControl]]) -> None:
        self._found: dict[str, list[tuple[str, int, Label]]] = {}
        self._tags = tags
        for number, controls in enumerate(tags):
            for label in controls[0].labels:
                for name in label.names:
                    self._found.setdefault(_loose(name), []).append((name, number, label))
        self.all = frozenset(name for found in self._found.values() for name, _, _ in found)

    def called(self, phrase: str) -> Mapping[str, Place]:
        """The label that a prompt means by this phrase, by the name of the picture.

        The closest name wins: the same one, one of another case, one that is the same but for
        marks (".", "?"); of equally close ones the first in the config.
        """
        spelled, folded = tidy(phrase), fold(phrase)

        def distance(found: tuple[str, int, Label]) -> int:
            return 0 if found[0] == spelled else 1 if fold(found[0]) == folded else 2

        closest: dict[str, Place] = {}
        done: set[int] = set()
        for _, number, label in sorted(self._found.get(_loose(phrase), ()), key=distance):
            if number not in done:
                done.add(number)
                for control in self._tags[number]:
                    closest.setdefault(control.to_name, (control, label))
        return closest


def _loose(name: str) -> str:
    """What names have in common that are the same but for case and marks."""
    return fold(normalise_phrase(name)) or fold(name)
