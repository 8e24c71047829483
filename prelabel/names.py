"""Names that people type: of labels, in configs and in prompts."""

from __future__ import annotations


def fold(name: str) -> str:
    """The name with its case and spaces evened out, to compare it with others."""
    return " ".join(name.casefold().split())
