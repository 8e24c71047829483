"""Matching of a phrase to the names of labels, and the steps by which a name is found.

The steps are tried in order. A later step counts only if no earlier one finds a name. No step
guesses: "truck" never matches "trunk".
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from typing import Generic, TypeVar

from prelabel.phrases.captions import normalise_phrase
from prelabel.phrases.inflection import load_inflection, singular_and_plural_forms
from prelabel.phrases.marks import strip_marks_and_article
from prelabel.phrases.names import fold, tidy
from prelabel.phrases.normal_forms import joined_form, normal_form, without_determiner
from prelabel.phrases.plain_words import load_word_lists

NamedT = TypeVar("NamedT")
ValueT = TypeVar("ValueT")

_ARTICLES_AND_CONJUNCTIONS = frozenset({"a", "an", "the", "and", "or"})
_MOST_NEAREST = 3
_MIN_SIMILARITY = 0.6  # difflib's default
# Characters; difflib's time is quadratic in them.
_LONGEST_COMPARED = 60


class Step(StrEnum):
    """The steps by which phrases find labels, closest first. docs/user/prompts.md explains them."""

    # The steps by the spelling of a name. The values occur in answers and in docs/user/prompts.md.
    SPELLED = "as spelled"
    ALIAS = "alias"
    PREDICTED_VALUE = "predicted_values"
    CASE = "upper and lower case"
    MARKS = "marks"
    NORMAL_FORM = "normal form"
    SINGULAR_PLURAL = "singular and plural"
    JOINED = "written together"
    # The label does not depend on the spelling of the phrase.
    NAMED_IN_PROMPT = "said in the prompt"
    ONLY_LABEL = "the only label"
    FIRST_LABEL = "first_label"
    # There is no label.
    UNLABELLED = "no label"
    LEFT_OUT = "left out"
    NEGATIVE = "negative"
    UNREADABLE = "unreadable"


_SPELLING_STEPS = (Step.SPELLED, Step.ALIAS, Step.PREDICTED_VALUE)


class NameIndex(Generic[NamedT]):
    """An index of names that finds the objects which a phrase may name.

    entries: tuples of a name, the step that an equal spelling is reported as (SPELLED, ALIAS or
    PREDICTED_VALUE), and the named object. Of equally close entries, the first wins.
    """

    def __init__(self, entries: Iterable[tuple[str, Step, NamedT]]) -> None:
        self._entries = sorted(entries, key=lambda entry: _SPELLING_STEPS.index(entry[1]))

    def find(self, phrase: str) -> Iterator[tuple[Step, NamedT]]:
        """Yield the objects that the phrase may name, closest first; one may occur repeatedly."""
        spelled, folded = tidy(phrase), fold(phrase)
        similar = self._by_loose_form.get(loose_form(phrase), ())
        yield from ((step, named) for name, step, named in similar if name == spelled)
        for name, _, named in similar:
            if name != spelled and fold(name) == folded:
                yield Step.CASE, named
        yield from ((Step.MARKS, named) for name, _, named in similar if fold(name) != folded)
        yield from self._find_by_normal_forms(phrase)

    def _find_by_normal_forms(self, phrase: str) -> Iterator[tuple[Step, NamedT]]:
        # The article may belong to a name ("A pillar"), so that the whole phrase comes first. With
        # a label "A", it is not stripped at all.
        whole = normal_form(phrase)
        first = whole.partition(" ")[0]
        is_label = first in _ARTICLES_AND_CONJUNCTIONS and first in self._by_normal_form
        stripped = whole if is_label else normal_form(strip_marks_and_article(phrase))
        forms = list(dict.fromkeys([whole, stripped]))
        undetermined = [without_determiner(form) for form in forms]
        inflected = [
            other
            for form in (*forms, *undetermined)
            for other in sorted(singular_and_plural_forms(form))
        ]
        other_forms = list(dict.fromkeys([*undetermined, *inflected]))
        for step, index, keys in (
            (Step.NORMAL_FORM, self._by_normal_form, forms),
            (Step.SINGULAR_PLURAL, self._by_normal_form, other_forms),
            (Step.JOINED, self._by_joined_form, map(joined_form, (*forms, *other_forms))),
        ):
            for key in keys:
                for named in index.get(key, ()):
                    yield step, named

    # Built on first use: a task without a prompt needs none, and normal forms are expensive.
    @cached_property
    def _by_loose_form(self) -> Mapping[str, Sequence[tuple[str, Step, NamedT]]]:
        return _group((loose_form(entry[0]), entry) for entry in self._entries)

    @cached_property
    def _by_normal_form(self) -> Mapping[str, Sequence[NamedT]]:
        return _group((normal_form(name), named) for name, _, named in self._entries)

    @cached_property
    def _by_joined_form(self) -> Mapping[str, Sequence[NamedT]]:
        return _group((joined_form(normal_form(name)), named) for name, _, named in self._entries)


def loose_form(name: str) -> str:
    """Return a form in which names are equal that differ only in case, "." and "?"."""
    return fold(normalise_phrase(name)) or fold(name)


def nearest(phrase: str, names: Sequence[str]) -> list[str]:
    """Return the names whose spelling is most similar to the phrase's, for an error message."""
    # Reversed, so that the first of several names with one normal form is returned.
    by_form = {normal_form(name[:_LONGEST_COMPARED]): name for name in reversed(names)}
    form = normal_form(phrase[:_LONGEST_COMPARED])
    matches = difflib.get_close_matches(form, by_form, _MOST_NEAREST, _MIN_SIMILARITY)
    return [by_form[match] for match in matches]


def load_words() -> None:
    """Load all word lists for matching, so that no request waits for them."""
    load_word_lists()
    load_inflection()


def _group(pairs: Iterable[tuple[str, ValueT]]) -> dict[str, list[ValueT]]:
    groups: dict[str, list[ValueT]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups
