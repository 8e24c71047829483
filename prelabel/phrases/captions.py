"""Phrases to captions: "Red Star", "St. Bernard" -> "red star . st bernard ."

A Grounding DINO caption is lower-case text in which "." ends a phrase; tokens of different phrases
do not see each other. So a phrase must not contain "." or "?" itself, and the caption must end in
".": without it, the last phrase's tokens attend differently from all others.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from prelabel.errors import PromptError

SEPARATOR = " . "
_SPECIAL_TOKENS = 2  # [CLS] and [SEP]
_SEPARATOR_TOKENS = 1
# Characters: a token has one at least, and BERT reads 256 tokens. It takes letters apart before it
# counts (one of Hangul is up to three).
_SURELY_FITS = 250


@dataclass(frozen=True, slots=True)
class Caption:
    """A chunk of the phrases as model input.

    text: the caption; spans: [start, end) of each phrase in characters of it;
    first_phrase: index of the chunk's first phrase among all phrases.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    first_phrase: int


@lru_cache(maxsize=4096)
def normalise_phrase(phrase: str) -> str:
    """The phrase as it stands in a caption; empty if nothing is left to look for."""
    text = unicodedata.normalize("NFC", phrase).lower()
    return " ".join("".join(c if _belongs(c) else " " for c in text).split())


def can_be_read(phrase: str) -> bool:
    """Whether a caption surely has room for the phrase, and the phrase a letter or digit in it."""
    return has_room_for(phrase) and any(char.isalnum() for char in normalise_phrase(phrase))


def has_room_for(phrase: str) -> bool:
    """Whether a caption surely has room for the phrase."""
    return len(unicodedata.normalize("NFD", normalise_phrase(phrase))) <= _SURELY_FITS


def build_captions(
    phrases: Sequence[str], count_tokens: Callable[[str], int], max_tokens: int
) -> list[Caption]:
    """Captions of at most `max_tokens` tokens, cut between phrases only, in order.

    count_tokens: tokens of a normalised phrase, without special tokens.
    Raises PromptError for a phrase that is empty, or too long for a caption of its own.
    """
    captions: list[Caption] = []
    chunk: list[str] = []
    used = _SPECIAL_TOKENS
    for index, phrase in enumerate(phrases):
        text = normalise_phrase(phrase)
        size = _phrase_tokens(text, phrase, count_tokens, max_tokens)
        if chunk and used + size > max_tokens:
            captions.append(_caption(chunk, index - len(chunk)))
            chunk, used = [], _SPECIAL_TOKENS
        chunk.append(text)
        used += size
    if chunk:
        captions.append(_caption(chunk, len(phrases) - len(chunk)))
    return captions


def _belongs(char: str) -> bool:
    return char not in ".?" and unicodedata.category(char)[0] not in "CZ"


def _phrase_tokens(
    text: str, phrase: str, count_tokens: Callable[[str], int], max_tokens: int
) -> int:
    size = count_tokens(text) + _SEPARATOR_TOKENS if text else 0
    shown = phrase if len(phrase) <= 60 else phrase[:60] + "..."
    if size <= _SEPARATOR_TOKENS:
        raise PromptError(f"The phrase {shown!r} has no word to look for. Use plain words.")
    if _SPECIAL_TOKENS + size > max_tokens:
        raise PromptError(
            f"The phrase {shown!r} is longer than the model can read ({max_tokens} tokens). "
            'Shorten it, or split it with ".".'
        )
    return size


def _caption(chunk: Sequence[str], first_phrase: int) -> Caption:
    spans, start = [], 0
    for text in chunk:
        spans.append((start, start + len(text)))
        start += len(text) + len(SEPARATOR)
    return Caption(SEPARATOR.join(chunk) + " .", tuple(spans), first_phrase)
