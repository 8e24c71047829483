"""Normalised spellings of names, as they stand in labeling configs and prompts."""

from __future__ import annotations

import unicodedata


def tidy(name: str) -> str:
    """Return the name in Unicode NFC with single spaces between its words."""
    return " ".join(unicodedata.normalize("NFC", name).split())


def fold(name: str) -> str:
    """Return the name tidy and case-folded, for comparisons."""
    return tidy(tidy(name).casefold())
