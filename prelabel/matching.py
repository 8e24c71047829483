"""Phrases to labels: which name of a list a phrase means, and by which step it was found.

The steps are tried in order; a later one only counts where no earlier one finds a name. None of
them guesses: "truck" is never "trunk".
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from typing import Generic, TypeVar

from prelabel.captions import normalise_phrase
from prelabel.names import fold, tidy
from prelabel.words import normal_form, other_numbers, without_determiner, written_together

NamedT = TypeVar("NamedT")

_MOST_NEAR = 3
_NEAR = 0.6  # of difflib's similarity; its own default
_LONGEST_COMPARED = 60  # characters


class Step(StrEnum):
    """How a phrase found its label, closest first. Documented for users in docs/prompts.md."""

    SPELLED = "as spelled"
    ALIAS = "alias"
    PREDICTED_VALUE = "predicted_values"
    CASE = "upper and lower case"
    MARKS = "marks"
    NORMAL_FORM = "normal form"
    NUMBER = "singular and plural"
    TOGETHER = "written together"
    SAID = "said in the prompt"
    ONLY_LABEL = "the only label"
    FIRST_LABEL = "first_label"
    UNLABELLED = "no label"
    LEFT_OUT = "left out"
    NEGATIVE = "negative"


class NameIndex(Generic[NamedT]):
    """Finds what names stand for, by spellings of them.

    entries: each a name, how an equal spelling is called (SPELLED, ALIAS or PREDICTED_VALUE), and
    what it stands for; of equally close ones the first wins.
    """

    def __init__(self, entries: Iterable[tuple[str, Step, NamedT]]) -> None:
        self._entries = sorted(
            entries,
            key=lambda entry: (Step.SPELLED, Step.ALIAS, Step.PREDICTED_VALUE).index(entry[1]),
        )

    def find(self, phrase: str) -> Iterator[tuple[Step, NamedT]]:
        """All that the phrase may mean, closest first."""
        spelled = tidy(phrase)
        for name, step, named in self._by_loose_form.get(loose_form(phrase), ()):
            if name == spelled:
                yield step, named
        for name, _, named in self._by_loose_form.get(loose_form(phrase), ()):
            if name != spelled and fold(name) == fold(phrase):
                yield Step.CASE, named
        for name, _, named in self._by_loose_form.get(loose_form(phrase), ()):
            if fold(name) != fold(phrase):
                yield Step.MARKS, named
        yield from self._by_normal_forms(normal_form(phrase))

    def _by_normal_forms(self, normal: str) -> Iterator[tuple[Step, NamedT]]:
        plain = without_determiner(normal)
        numbers = sorted(other_numbers(normal) | ({plain, *other_numbers(plain)} - {normal}))
        for step, index, forms in (
            (Step.NORMAL_FORM, self._by_normal_form, (normal,)),
            (Step.NUMBER, self._by_normal_form, numbers),
            (Step.TOGETHER, self._by_joined_form, map(written_together, (normal, *numbers))),
        ):
            for form in forms:
                for named in index.get(form, ()):
                    yield step, named

    @cached_property
    def _by_loose_form(self) -> Mapping[str, Sequence[tuple[str, Step, NamedT]]]:
        return _grouped((loose_form(name), (name, step, it)) for name, step, it in self._entries)

    @cached_property
    def _by_normal_form(self) -> Mapping[str, Sequence[NamedT]]:
        return _grouped((normal_form(name), named) for name, _, named in self._entries)

    @cached_property
    def _by_joined_form(self) -> Mapping[str, Sequence[NamedT]]:
        return _grouped(
            (written_together(normal_form(name)), named) for name, _, named in self._entries
        )


def loose_form(name: str) -> str:
    """What names have in common that are the same but for case, "." and "?"."""
    return fold(normalise_phrase(name)) or fold(name)


def nearest(phrase: str, names: Sequence[str]) -> list[str]:
    """The names that are spelled most like the phrase, for a sentence; often none."""
    shown = {normal_form(name[:_LONGEST_COMPARED]): name for name in reversed(names)}
    wanted = normal_form(phrase[:_LONGEST_COMPARED])
    return [shown[form] for form in difflib.get_close_matches(wanted, shown, _MOST_NEAR, _NEAR)]


ValueT = TypeVar("ValueT")


def _grouped(pairs: Iterable[tuple[str, ValueT]]) -> dict[str, list[ValueT]]:
    groups: dict[str, list[ValueT]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups
