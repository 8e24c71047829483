"""Phrases -> captions: "Red Star", "St. Bernard" -> "red star . st bernard ."

A Grounding DINO caption is lower-case text in which "." ends a phrase; tokens of different phrases
do not attend to each other. So a phrase must not contain "." or "?", and the caption must end in
".": without it, the last phrase's tokens attend differently from all others.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from prelabel.errors import PromptError

SEPARATOR = " . "  # the spelling of the captions that the models were trained on
_SPECIAL_TOKENS = 2  # [CLS] and [SEP]
_SEPARATOR_TOKENS = 1
# Characters in NFD. BERT reads 256 tokens, of which captions need three for themselves, and a token
# has at least one character. BERT decomposes letters first (one of Hangul into up to three).
_SAFE_LENGTH = 250
_MOST_QUOTED = 60  # characters of a phrase in an error message


@dataclass(frozen=True, slots=True)
class Caption:
    """A chunk of the phrases as model input.

    Attributes:
        text: The caption.
        spans: [start, end) of each phrase, in characters of the text.
        first_phrase: Index of the chunk's first phrase among all phrases.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    first_phrase: int


@lru_cache(maxsize=4096)
def normalise_phrase(phrase: str) -> str:
    """Return the phrase as it stands in a caption; "" if no character of it is left."""
    text = unicodedata.normalize("NFC", phrase).lower()
    return " ".join("".join(c if _is_caption_char(c) else " " for c in text).split())


def can_be_read(phrase: str) -> bool:
    """Return True if the phrase has a letter or digit, and fits in a caption in any case."""
    return fits_in_caption(phrase) and any(char.isalnum() for char in normalise_phrase(phrase))


def fits_in_caption(phrase: str) -> bool:
    """Return True if the phrase is short enough for a caption, whatever its tokens are."""
    return len(unicodedata.normalize("NFD", normalise_phrase(phrase))) <= _SAFE_LENGTH


def build_captions(
    phrases: Sequence[str], count_tokens: Callable[[str], int], max_tokens: int
) -> list[Caption]:
    """Build captions of at most `max_tokens` tokens from the phrases, in their order.

    Args:
        phrases: The phrases to look for.
        count_tokens: Returns the number of tokens of a normalised phrase, without special tokens.
        max_tokens: The longest caption that the model reads.

    Raises:
        PromptError: A phrase is empty, or too long for a caption of its own.
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


def _is_caption_char(char: str) -> bool:
    return char not in ".?" and unicodedata.category(char)[0] not in "CZ"


def _phrase_tokens(
    text: str, phrase: str, count_tokens: Callable[[str], int], max_tokens: int
) -> int:
    size = count_tokens(text) + _SEPARATOR_TOKENS if text else 0
    quoted = phrase if len(phrase) <= _MOST_QUOTED else phrase[:_MOST_QUOTED] + "..."
    if size <= _SEPARATOR_TOKENS:
        raise PromptError(f"The phrase {quoted!r} has no word to look for. Use plain words.")
    if _SPECIAL_TOKENS + size > max_tokens:
        raise PromptError(
            f"The phrase {quoted!r} is longer than the model can read ({max_tokens} tokens). "
            'Shorten it, or split it with ".".'
        )
    return size


def _caption(chunk: Sequence[str], first_phrase: int) -> Caption:
    spans, start = [], 0
    for text in chunk:
        spans.append((start, start + len(text)))
        start += len(text) + len(SEPARATOR)
    return Caption(SEPARATOR.join(chunk) + " .", tuple(spans), first_phrase)
