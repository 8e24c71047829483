"""One sentence about the first fault of a pydantic ValidationError."""

from __future__ import annotations

from pydantic import ValidationError


def own_sentence(error: ValidationError) -> str:
    """Return the sentence of a ValueError that one of this project's validators raised.

    The sentence is empty if pydantic itself found the fault.
    """
    cause = error.errors()[0].get("ctx", {}).get("error")
    return str(cause) if isinstance(cause, ValueError) else ""


def first_fault(error: ValidationError) -> str:
    """Return the place and the text of the first fault, without a full stop."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "the top"
    return f"{place}: {own_sentence(error) or first['msg']}".rstrip(".")
