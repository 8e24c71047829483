"""Text as people paste it into shells, .env files and YAML: with quotes and spaces around it."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationInfo

QUOTES: Final = "\"'`“”‘’"


def named(field: ValidationInfo) -> str:
    """A field as its user knows it: the environment's variables are in capitals."""
    name = str(field.field_name)
    return name.upper() if (field.config or {}).get("title") == "Environment" else name


def unquoted(text: str) -> str:
    """The text without the spaces and quotes around it."""
    return text.strip(f"{QUOTES} \t\r\n")
