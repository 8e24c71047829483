"""Clean-up of values that were pasted into shells, .env files or YAML with quotes and spaces."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationInfo

QUOTES: Final = "\"'`“”‘’"


def named(field: ValidationInfo) -> str:
    """Return a field's name as users write it: environment variables in capitals."""
    name = str(field.field_name)
    return name.upper() if (field.config or {}).get("title") == "Environment" else name


def unquoted(text: str) -> str:
    """Return the text without surrounding quotes and white space."""
    return text.strip(f"{QUOTES} \t\r\n")
