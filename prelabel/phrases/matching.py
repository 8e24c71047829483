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

from prelabel.phrases.captions import normalise_phrase
from prelabel.phrases.names import fold, tidy
from prelabel.phrases.words import (
    bare,
    normal_form,
    other_numbers,
    without_determiner,
    written_together,
)

NamedT = TypeVar("NamedT")

_ARTICLES = frozenset({"a", "an", "the", "and", "or"})
_MOST_NEAR = 3
_NEAR = 0.6  # of difflib's similarity; its own default
_LONGEST_COMPARED = 60  # characters


class Step(StrEnum):
    """The steps by which phrases find labels, closest first. docs/prompts.md explains them."""

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
    UNREADABLE = "unreadable"


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
        spelled, folded = tidy(phrase), fold(phrase)
        alike = self._by_loose_form.get(loose_form(phrase), ())
        yield from ((step, named) for name, step, named in alike if name == spelled)
        for name, _, named in alike:
            if name != spelled and fold(name) == folded:
                yield Step.CASE, named
        yield from ((Step.MARKS, named) for name, _, named in alike if fold(name) != folded)
        yield from self._by_normal_forms(phrase)

    def _by_normal_forms(self, phrase: str) -> Iterator[tuple[Step, NamedT]]:
        # An article is part of some names ("A pillar"), so that the whole phrase comes first; and
        # it is none where there is a label "A".
        whole = normal_form(phrase)
        first = whole.partition(" ")[0]
        is_label = first in _ARTICLES and first in self._by_normal_form
        forms = list(dict.fromkeys([whole, whole if is_label else normal_form(bare(phrase))]))
        plain = [without_determiner(form) for form in forms]
        numbers = [number for form in (*forms, *plain) for number in sorted(other_numbers(form))]
        others = list(dict.fromkeys([*plain, *numbers]))
        for step, index, wanted in (
            (Step.NORMAL_FORM, self._by_normal_form, forms),
            (Step.NUMBER, self._by_normal_form, others),
            (Step.TOGETHER, self._by_joined_form, map(written_together, (*forms, *others))),
        ):
            for form in wanted:
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
    """A form in which names are equal that differ only in case, "." and "?"."""
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
