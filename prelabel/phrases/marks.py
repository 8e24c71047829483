"""Marks around a phrase: the quotes, brackets, bullets, punctuation and articles of typed text."""

from __future__ import annotations

import re
from typing import Final

from prelabel.phrases.names import tidy

# Quotes, and the marks by which chats and documents show words as bold, struck or quoted.
_QUOTES: Final = "\"'`´“”„‟‘’‚‛«»‹›「」『』*~=<>|"
_PUNCTUATION: Final = ".,;:!?…。，、；：！？"
_BULLETS: Final = "•·‣▪●◦○►→#&"
_BRACKETS: Final = {"(": ")", "[": "]", "{": "}", "（": "）", "【": "】"}
# "A" is a name, not an article, in front of a number ("A 320") and in "A and B".
_LEADING_ARTICLE: Final = re.compile(
    r"(?:(?:and|or)\s+(?=\S))?(?:the\s+(?=\S)|an?\s+(?!and\b|or\b)(?=[^\s\d]))?", re.IGNORECASE
)
_TRAILING_CONJUNCTION: Final = re.compile(r"(?<=\S)\s+(?:and|or|&)$", re.IGNORECASE)


def strip_marks(phrase: str) -> str:
    """Return the phrase without the quotes, brackets, bullets and punctuation around it.

    A phrase of marks alone is returned whole.
    """
    text = tidy(phrase)
    # Repeatedly, because marks are nested: '("dog").'
    while text != (stripped := _strip_once(text)):
        text = stripped
    return text or tidy(phrase)


def strip_marks_and_article(phrase: str) -> str:
    """Return the phrase without marks, and without its article or a dangling "and" or "or".

    A phrase of marks alone is returned whole.
    """
    text = strip_marks(phrase)
    article = _LEADING_ARTICLE.match(text)
    return _TRAILING_CONJUNCTION.sub("", text[article.end() :] if article else text)


def _strip_once(text: str) -> str:
    text = text.strip(_QUOTES + " ").rstrip(_PUNCTUATION + " ").lstrip(_BULLETS + _PUNCTUATION)
    for opening, closing in _BRACKETS.items():
        if text.startswith(opening) and text.endswith(closing):
            is_one_pair = text.rindex(opening) < text.index(closing)
            text = text[1:-1] if is_one_pair else text
        elif text.startswith(opening) and closing not in text:
            text = text.removeprefix(opening)
        elif text.endswith(closing) and opening not in text:
            text = text.removesuffix(closing)
    return text.strip()
