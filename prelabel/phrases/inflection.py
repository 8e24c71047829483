"""English singular and plural of phrases."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final

from prelabel.phrases.normal_forms import normal_form

if TYPE_CHECKING:
    import inflect

# Plural endings that inflect creates but does not revert, each with its singular ending.
_PLURAL_ENDINGS: Final = (("s", ""), ("es", ""), ("es", "is"), ("a", "um"))
_LATIN_PLURAL_ENDINGS: Final = (("ae", "a"), ("i", "us"))  # inflect does not even create these
_INFLECTED_WORD: Final = re.compile(r"[a-z]{2,60}")


@lru_cache(maxsize=16_384)
def singular_plural_key(words: str) -> str:
    """Return a key that the singular and the plural of a phrase share."""
    normal = normal_form(words)
    return min(normal, *singular_and_plural_forms(normal))


@lru_cache(maxsize=16_384)
def singular_and_plural_forms(normal: str) -> frozenset[str]:
    """Return the English plurals and singulars of a normal form, without the form itself.

    "person" -> "people", "persons"; "traffic lights" -> "traffic light"; "bottles of water" ->
    "bottle of water".
    """
    words = normal.split()
    nouns = {len(words) - 1} if words else set()
    if "of" in words[1:-1]:  # the noun before "of" has the number, the last one may have it, too
        nouns.add(words.index("of", 1) - 1)
    return frozenset(
        " ".join([*words[:noun], form, *words[noun + 1 :]])
        for noun in nouns
        if _INFLECTED_WORD.fullmatch(words[noun])
        for form in _word_forms(words[noun])
    )


def load_inflection() -> None:
    """Create inflect's engines, so that no request waits for them."""
    _engines()


def _word_forms(word: str) -> Iterator[str]:
    yield from (
        word.removesuffix(plural) + singular
        for plural, singular in _LATIN_PLURAL_ENDINGS
        if word.endswith(plural)
    )
    # inflect appends an "s" to a final "s", too, and "princess" is not a plural of "princes".
    yield from (form for form in _plurals(word) if word[-1] != "s" or form != f"{word}s")
    for singular in _singular_candidates(word):
        # inflect takes "bus" for the plural of "bu", so that its singulars are verified by their
        # plurals. "deers" is a common spelling although the plural of "deer" is "deer".
        plurals = _plurals(singular) if len(singular) > 1 else frozenset()
        if word in plurals or (singular in plurals and word in (f"{singular}s", f"{singular}es")):
            yield singular


@lru_cache(maxsize=16_384)
def _plurals(word: str) -> frozenset[str]:
    return frozenset(str(engine.plural_noun(word)) for engine in _engines())


def _singular_candidates(word: str) -> Iterable[str]:
    by_engine = {engine.singular_noun(word) for engine in _engines()}
    by_ending = {
        word.removesuffix(plural) + singular
        for plural, singular in _PLURAL_ENDINGS
        if word.endswith(plural)
    }
    return ({str(singular) for singular in by_engine if singular} | by_ending) - {word}


@cache
def _engines() -> tuple[inflect.engine, ...]:
    """Engines for modern plurals ("people", "cactuses") and classical ones ("persons", "cacti")."""
    # Imported at the first use: the import takes 1.6 s of CPU time, and few commands need it.
    import inflect

    modern, classical = inflect.engine(), inflect.engine()
    classical.classical(all=True)
    return modern, classical
