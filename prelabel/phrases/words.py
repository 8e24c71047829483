"""Spellings of names: the words that a model reads, and the forms in which names are compared.

Labels are often identifiers ("traffic_light", "TrafficLight", "trafficlight"), and prompts are
typed by people ('- the "dog"'). The models were trained on captions of plain English words.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Final

import inflect

from prelabel.checkpoints.cards import TEXT_ENCODERS_FOLDER
from prelabel.phrases.names import fold, tidy

_FOLDER: Final = Path(__file__).resolve().parent
_HYPHENS: Final = re.compile("[-\u2010\u2011\u2012\u2013\u2014\u2212]")
_COLOURS: Final = tuple(
    "black blue brown gray green grey orange pink purple red white yellow".split()  # noqa: SIM905
)
_SUFFIXES: Final = frozenset({"ing", "ish", "ling", "ness", "est", "ate", "ed", "er"})
_SHORTEST_JOINED: Final = 6  # letters of a name that is taken apart, and of a part of one: 3
_SHORTEST_PART: Final = 3
_LONGEST_JOINED: Final = 40

# Quotes, and what marks words as bold, struck or quoted where people paste from.
_QUOTES: Final = "\"'`´“”„‟‘’‚‛«»‹›「」『』*~=<>|"
_PUNCTUATION: Final = ".,;:!?…。，、；：！？"
_BULLETS: Final = "•·‣▪●◦○►→#&"
_BRACKETS: Final = {"(": ")", "[": "]", "{": "}", "（": "）", "【": "】"}
# "A" in front of a number is a name ("A 320"), and so it is in "A and B".
_ARTICLE: Final = re.compile(
    r"(?:(?:and|or)\s+(?=\S))?(?:the\s+(?=\S)|an?\s+(?!and\b|or\b)(?=[^\s\d]))?", re.IGNORECASE
)
_LIST_GOES_ON: Final = re.compile(r"(?<=\S)\s+(?:and|or|&)$", re.IGNORECASE)
_DETERMINER: Final = re.compile(r"(?:all|any|every|each|some|both)\s+(?:of\s+)?(?:the\s+)?(?=\S)")
# Signs that tell names apart: C, C++ and C#; R&D.
_KEPT_SIGNS: Final = "+#&%$€£"
_COMBINING: Final = re.compile("[\u0300-\u036f]")  # of Latin, Greek and Cyrillic letters
# Plurals that inflect makes and does not take back.
_ENDINGS: Final = (("s", ""), ("es", ""), ("es", "is"), ("a", "um"))
_LATIN: Final = (("ae", "a"), ("i", "us"))  # which it does not even make
_JOINT: Final = re.compile(r"(?<!\d) | (?!\d)")
_ENGLISH: Final = re.compile(r"[a-z]{2,60}")


@lru_cache(maxsize=16_384)
def to_words(name: str) -> str:
    """The name in plain words: "traffic light" for each of "traffic_light", "traffic-light",
    "TrafficLight" and "trafficlight".

    Names that are usually spelled with such marks stay what they are: "t-shirt", "R&D", "C++",
    "3D printer", "iPhone", "YouTube".
    """
    tokens = unicodedata.normalize("NFKC", name).replace("_", " ").split()
    return " ".join(word for token in tokens for word in _words_of(token))


def _words_of(token: str) -> Iterator[str]:
    parts = _HYPHENS.split(token)
    if len(parts) > 1 and all(part.isalpha() and len(part) > 1 for part in parts):
        for part in parts:
            yield from _words_of(part)
    elif parts := _camel_case(token):
        yield from parts
    else:
        yield _compound(token) or token


def _camel_case(token: str) -> list[str]:
    """The parts of "TrafficLight", "trafficLight" or "TVStand"; empty if it is none.

    A brand's capitals are no word boundary, so that each part has three letters ("iPhone",
    "McDonald" stay), and the whole is no word by itself ("YouTube").
    """
    starts = [0, *(at for at in range(1, len(token)) if _is_boundary(token, at)), len(token)]
    parts = [token[start:end] for start, end in pairwise(starts)]
    if len(parts) < 2 or not all(part.isalnum() for part in parts) or _is_one_word(token):
        return []
    return parts if all(_is_part(part) for part in parts) else []


def _is_boundary(token: str, at: int) -> bool:
    before, here, after = token[at - 1], token[at], token[at + 1 : at + 2]
    return here.isupper() and (before.islower() or (before.isupper() and after.islower()))


def _is_part(part: str) -> bool:
    letters = sum(char.isalpha() for char in part)
    return (part.isupper() and len(part) > 1) or letters >= _SHORTEST_PART


def _compound(token: str) -> str | None:
    """The words of a known name that is written together, in its case of letters: "trafficlight",
    "redstar"; None for any other.
    """
    lower = token.lower()
    fits = _SHORTEST_JOINED <= len(token) <= _LONGEST_JOINED and _ENGLISH.fullmatch(lower)
    if not fits or is_word(lower) or token not in (lower, token.upper(), token.title()):
        return None
    words = _known_compound(lower)
    if words is None or token == lower:
        return words
    return words.upper() if token.isupper() else words.title()


def _known_compound(lower: str) -> str | None:
    compounds = _compounds()
    for ending in ("", "s", "es"):
        stem = lower.removesuffix(ending) if ending else lower
        if lower.endswith(ending) and stem in compounds:
            return compounds[stem] + ending
    for colour in _COLOURS:
        rest = lower.removeprefix(colour)
        is_name = len(rest) >= _SHORTEST_PART and rest not in _SUFFIXES and is_word(rest)
        if rest != lower and is_name:
            return None if _is_one_word(lower) else f"{colour} {rest}"
    return None


def _is_one_word(name: str) -> bool:
    lower = name.lower()
    return is_word(name) or not {lower, lower.removesuffix("s")}.isdisjoint(_one_word_names())


def is_word(name: str) -> bool:
    """Return whether the name is one token of BERT's English vocabulary, in any case."""
    return name.lower() in _vocabulary()


@cache
def _vocabulary() -> frozenset[str]:
    path = TEXT_ENCODERS_FOLDER / "bert-base-uncased" / "tokenizer.json"
    return frozenset(json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"])


@cache
def _compounds() -> dict[str, str]:
    return {line.replace(" ", ""): line for line in _listed_names() if line[0] != "="}


@cache
def _one_word_names() -> frozenset[str]:
    return frozenset(line[1:] for line in _listed_names() if line[0] == "=")


def _listed_names() -> list[str]:
    lines = (_FOLDER / "compound_words.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and line[0] != "#"]


def bare(phrase: str) -> str:
    """The phrase without what people put around it: quotes, brackets, bullets, punctuation, an
    article, an "and" that is left of a list. All of it, if nothing else would be left.
    """
    text = without_marks(phrase)
    article = _ARTICLE.match(text)
    return _LIST_GOES_ON.sub("", text[article.end() :] if article else text)


def without_marks(phrase: str) -> str:
    """The phrase without quotes, brackets, bullets and punctuation around it. All of it, if nothing
    else would be left.
    """
    text = tidy(phrase)
    while text != (shorter := _shorter(text)):
        text = shorter
    return text or tidy(phrase)


def _shorter(text: str) -> str:
    text = text.strip(_QUOTES + " ").rstrip(_PUNCTUATION + " ").lstrip(_BULLETS + _PUNCTUATION)
    for opening, closing in _BRACKETS.items():
        if text.startswith(opening) and text.endswith(closing):
            inside = text.rindex(opening) < text.index(closing)
            text = text[1:-1] if inside else text
        elif text.startswith(opening) and closing not in text:
            text = text.removeprefix(opening)
        elif text.endswith(closing) and opening not in text:
            text = text.removesuffix(closing)
    return text.strip()


def searched_words(phrase: str) -> str:
    """The words that the model is asked for with this phrase of a prompt."""
    return to_words(bare(phrase))


@lru_cache(maxsize=65_536)
def normal_form(name: str) -> str:
    """The name in the form in which it is compared with others: plain words in one case, without
    accents and marks.
    """
    text = fold(to_words(without_marks(unicodedata.normalize("NFKC", name))))
    text = _COMBINING.sub("", unicodedata.normalize("NFD", text))
    kept = (char if _is_compared(char) else " " for char in unicodedata.normalize("NFC", text))
    return " ".join("".join(kept).split()) or fold(name)


def _is_compared(char: str) -> bool:
    return char in _KEPT_SIGNS or unicodedata.category(char)[0] in "LMN"


@lru_cache(maxsize=16_384)
def number_key(words: str) -> str:
    """A key that the singular and the plural of a phrase share."""
    normal = normal_form(words)
    return min(normal, *other_numbers(normal))


def without_determiner(normal: str) -> str:
    """A normal form without "all", "some" and the like in front: "all the dogs" -> "dogs"."""
    determiner = _DETERMINER.match(normal)
    return normal[determiner.end() :] if determiner else normal


def written_together(normal: str) -> str:
    """A normal form without its spaces, but for those between digits: "1 2" is not "12"."""
    return _JOINT.sub("", normal)


@lru_cache(maxsize=16_384)
def other_numbers(normal: str) -> frozenset[str]:
    """The English plurals and singulars of a normal form: "person" -> "people", "persons";
    "traffic lights" -> "traffic light"; "bottles of water" -> "bottle of water".
    """
    words = normal.split()
    places = {len(words) - 1} if words else set()
    if "of" in words[1:-1]:
        places.add(words.index("of", 1) - 1)
    return frozenset(
        " ".join([*words[:place], form, *words[place + 1 :]])
        for place in places
        if _ENGLISH.fullmatch(words[place])
        for form in _forms(words[place])
    )


def _forms(word: str) -> Iterator[str]:
    yield from (word[: -len(end)] + start for end, start in _LATIN if word.endswith(end))
    # No plural is made by an "s" behind an "s": "princes" is not one of "princess".
    yield from (form for form in _plurals(word) if word[-1] != "s" or form != f"{word}s")
    for singular in _singular_candidates(word):
        # inflect takes "bus" for the plural of "bu": what it says is only believed both ways. And
        # people write "deers", whose plural is the same word.
        plurals = _plurals(singular) if len(singular) > 1 else frozenset()
        if word in plurals or (singular in plurals and word in (f"{singular}s", f"{singular}es")):
            yield singular


@lru_cache(maxsize=16_384)
def _plurals(word: str) -> frozenset[str]:
    return frozenset(str(engine.plural_noun(word)) for engine in _engines())


def _singular_candidates(word: str) -> Iterable[str]:
    found = {engine.singular_noun(word) for engine in _engines()}
    by_ending = {
        word.removesuffix(ending) + singular
        for ending, singular in _ENDINGS
        if word.endswith(ending)
    }
    return ({str(each) for each in found if each} | by_ending) - {word}


def load_words() -> None:
    """Read all word lists now, and not while a request waits."""
    _vocabulary(), _compounds(), _one_word_names(), _engines()


@cache
def _engines() -> tuple[inflect.engine, ...]:
    """Today's plurals ("people", "cactuses"), and the classical ones ("persons", "cacti")."""
    modern, classical = inflect.engine(), inflect.engine()
    classical.classical(all=True)
    return modern, classical
