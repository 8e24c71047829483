"""Plain words: the spelling of names in captions, without underscores and joined words.

The models were trained on captions of English words, and labels are often identifiers
("traffic_light", "TrafficLight", "trafficlight").
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Final

from prelabel.checkpoints.cards import TEXT_ENCODERS_FOLDER

_COMPOUNDS_FILE: Final = Path(__file__).resolve().parent / "compound_words.txt"
_HYPHENS: Final = re.compile("[-\u2010\u2011\u2012\u2013\u2014\u2212]")
_COLOURS: Final = tuple(
    "black blue brown gray green grey orange pink purple red white yellow".split()  # noqa: SIM905
)
# Words of the vocabulary that are only an ending behind a colour: "blackness", "greyling".
_SUFFIXES: Final = frozenset({"ing", "ish", "ling", "ness", "est", "ate", "ed", "er"})
_SHORTEST_COMPOUND: Final = 6  # letters
_SHORTEST_PART: Final = 3  # letters
_LONGEST_COMPOUND: Final = 40
_LOWER_CASE_WORD: Final = re.compile(r"[a-z]{2,60}")


@lru_cache(maxsize=16_384)
def to_words(name: str) -> str:
    """Return the name in plain words.

    "traffic_light", "traffic-light", "TrafficLight" and "trafficlight" become "traffic light".
    Names that are usually spelled with such marks stay: "t-shirt", "R&D", "C++", "3D printer",
    "iPhone", "YouTube".
    """
    tokens = unicodedata.normalize("NFKC", name).replace("_", " ").split()
    return " ".join(word for token in tokens for word in _split_token(token))


def is_word(name: str) -> bool:
    """Return True if the name is one token of BERT's English vocabulary, in any case."""
    return name.lower() in _vocabulary()


def load_word_lists() -> None:
    """Read the word lists into memory, so that no request waits for the files."""
    _vocabulary(), _compounds(), _single_words()


def _split_token(token: str) -> Iterator[str]:
    parts = _HYPHENS.split(token)
    # One letter beside a hyphen belongs to the word: "t-shirt", "x-ray".
    if len(parts) > 1 and all(part.isalpha() and len(part) > 1 for part in parts):
        for part in parts:
            yield from _split_token(part)
    elif parts := _split_camel_case(token):
        yield from parts
    else:
        yield _split_compound(token) or token


def _split_camel_case(token: str) -> list[str]:
    """Split "TrafficLight", "trafficLight" or "TVStand"; return [] for any other token.

    Capitals inside of brand names are no word boundaries. So each part must have three letters
    ("iPhone" and "McDonald" stay), and the token must not be a word itself ("YouTube" stays).
    """
    starts = [0, *(at for at in range(1, len(token)) if _is_boundary(token, at)), len(token)]
    parts = [token[start:end] for start, end in pairwise(starts)]
    if len(parts) < 2 or not all(part.isalnum() for part in parts) or _is_single_word(token):
        return []
    return parts if all(_is_part(part) for part in parts) else []


def _is_boundary(token: str, at: int) -> bool:
    before, here, after = token[at - 1], token[at], token[at + 1 : at + 2]
    return here.isupper() and (before.islower() or (before.isupper() and after.islower()))


def _is_part(part: str) -> bool:
    letters = sum(char.isalpha() for char in part)
    return (part.isupper() and len(part) > 1) or letters >= _SHORTEST_PART


def _split_compound(token: str) -> str | None:
    """Return the words of a known compound such as "trafficlight" or "redstar", in its case.

    None for any other token.
    """
    lower = token.lower()
    has_length = _SHORTEST_COMPOUND <= len(token) <= _LONGEST_COMPOUND
    if not has_length or not _LOWER_CASE_WORD.fullmatch(lower) or is_word(lower):
        return None
    if token not in (lower, token.upper(), token.title()):
        return None
    words = _words_of_compound(lower)
    if words is None or token == lower:
        return words
    return words.upper() if token.isupper() else words.title()


def _words_of_compound(lower: str) -> str | None:
    compounds = _compounds()
    for ending in ("", "s", "es"):
        stem = lower.removesuffix(ending) if ending else lower
        if lower.endswith(ending) and stem in compounds:
            return compounds[stem] + ending
    for colour in _COLOURS:
        rest = lower.removeprefix(colour)
        is_name = len(rest) >= _SHORTEST_PART and rest not in _SUFFIXES and is_word(rest)
        if rest != lower and is_name:
            return None if _is_single_word(lower) else f"{colour} {rest}"
    return None


def _is_single_word(name: str) -> bool:
    lower = name.lower()
    return is_word(name) or not {lower, lower.removesuffix("s")}.isdisjoint(_single_words())


@cache
def _vocabulary() -> frozenset[str]:
    path = TEXT_ENCODERS_FOLDER / "bert-base-uncased" / "tokenizer.json"
    return frozenset(json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"])


@cache
def _compounds() -> dict[str, str]:
    """Known compounds: spelling without spaces -> words."""
    return {line.replace(" ", ""): line for line in _compound_lines() if line[0] != "="}


@cache
def _single_words() -> frozenset[str]:
    """Words that look like compounds and stay whole; the file marks them by "="."""
    return frozenset(line[1:] for line in _compound_lines() if line[0] == "=")


def _compound_lines() -> list[str]:
    lines = _COMPOUNDS_FILE.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and line[0] != "#"]
