"""Normal forms: the spellings in which a phrase and a label are compared."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

from prelabel.phrases.marks import strip_marks
from prelabel.phrases.names import fold
from prelabel.phrases.plain_words import to_words

_DETERMINER: Final = re.compile(r"(?:all|any|every|each|some|both)\s+(?:of\s+)?(?:the\s+)?(?=\S)")
# These signs distinguish names: C, C++ and C#; R&D.
_SIGNIFICANT_SIGNS: Final = "+#&%$€£"
# Combining accents of Latin, Greek and Cyrillic letters. Those of other scripts are letters.
_ACCENTS: Final = re.compile("[\u0300-\u036f]")
_SPACE_NOT_BETWEEN_DIGITS: Final = re.compile(r"(?<!\d) | (?!\d)")


@lru_cache(maxsize=65_536)
def normal_form(name: str) -> str:
    """Return the name in plain words and one case, without accents and marks."""
    # NFKC maps full-width letters and ligatures to plain ones. NFD separates letters and accents.
    text = fold(to_words(strip_marks(unicodedata.normalize("NFKC", name))))
    text = _ACCENTS.sub("", unicodedata.normalize("NFD", text))
    chars = (c if _is_significant(c) else " " for c in unicodedata.normalize("NFC", text))
    return " ".join("".join(chars).split()) or fold(name)


def without_determiner(normal: str) -> str:
    """Return a normal form without its determiner: "all the dogs" -> "dogs"."""
    determiner = _DETERMINER.match(normal)
    return normal[determiner.end() :] if determiner else normal


def joined_form(normal: str) -> str:
    """Return a normal form without spaces, except between digits: "1 2" is not "12"."""
    return _SPACE_NOT_BETWEEN_DIGITS.sub("", normal)


def _is_significant(char: str) -> bool:
    return char in _SIGNIFICANT_SIGNS or unicodedata.category(char)[0] in "LMN"
