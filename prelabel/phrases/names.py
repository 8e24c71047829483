"""Names that people type: of labels, in configs and in prompts."""

from __future__ import annotations

import unicodedata


def tidy(name: str) -> str:
    """The name as it is spelled, with its spaces evened out, and its accents written one way."""
    return " ".join(unicodedata.normalize("NFC", name).split())


def fold(name: str) -> str:
    """The name with its case evened out, too, to compare it with others."""
    return tidy(tidy(name).casefold())
