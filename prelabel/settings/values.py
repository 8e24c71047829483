"""Parsers of values from a shell, a .env file or YAML, with the quotes and spaces of pasted text.

Each parser returns the plain value, or raises ValueError with a message that shows the correct
form. No message repeats a value that may be a secret.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from pydantic import ValidationInfo

from prelabel.net.origin import Origin
from prelabel.net.pasted_text import named, unquoted

_TRUE: Final = (True, "1", "true", "yes", "on", "t", "y")
LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
# Pages of Label Studio's user interface, as copied from a browser's address bar. Other paths stay,
# because they may be the prefix under which Label Studio is served.
LABEL_STUDIO_PAGE: Final = re.compile(
    r"/(projects/?|projects/\d+(/.*)?|user/(login|signup|account)(/.*)?)([?#].*)?$"
)
# The parts of a header "Authorization: Token ..." that are copied along with a token.
AUTHORIZATION: Final = re.compile(r"^(authorization\s*:\s*)?((token|bearer)\s+)?", re.IGNORECASE)


def to_share(value: object, field: ValidationInfo) -> object:
    """Parse a number from 0 to 1, written `0.3`, `0,3` or `30%`. Return None for an empty text."""
    if not isinstance(value, str):
        return value
    text = unquoted(value)
    if not text:
        return None
    number = text.removesuffix("%").strip().replace(",", ".")
    try:
        share = float(number) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError(
            f"{named(field)} is {text[:40]!r}, which is not a number from 0 to 1. "
            "Write it as 0.3 or 30%."
        )
    return share


def to_log_level(value: object, field: ValidationInfo) -> object:
    """Parse `DEBUG`, `INFO`, `WARNING` (or `WARN`) or `ERROR` in any case.

    Return None for an empty text.
    """
    if not isinstance(value, str):
        return value
    text = unquoted(value)
    level = "WARNING" if text.upper() == "WARN" else text.upper()
    if level and level not in LOG_LEVELS:
        levels = " or ".join(LOG_LEVELS)
        raise ValueError(
            f"{named(field)} is {text[:40]!r}, which is not a log level. Set it to {levels}."
        )
    return level or None


def to_path(value: object) -> object:
    """Return a path without quotes, or None for an empty text."""
    return unquoted(value) or None if isinstance(value, str) else value


def to_flag(value: object, field: ValidationInfo) -> object:
    """Return True or False for a word that says so, and None for an empty text."""
    text = unquoted(value).lower() if isinstance(value, str) else value
    if text in ("", None):
        return None
    if text in _TRUE:
        return True
    if text in (False, "0", "false", "no", "off", "f", "n"):
        return False
    raise ValueError(
        f"{named(field)} is {str(value)[:40]!r}. Set it to true or false, or unset it."
    )


def to_true(value: object, field: ValidationInfo) -> object:
    """Return True for a true value and None for an empty text. Raise ValueError for any other."""
    text = unquoted(value).lower() if isinstance(value, str) else value
    if text in ("", None):
        return None
    if text in _TRUE:
        return True
    raise ValueError(
        f"{named(field)} would switch off the verification of certificates, which this service "
        "does not support. Unset it, and set SSL_CERT_FILE to a file with your CA's certificate."
    )


def to_token(name: str, text: str) -> str:
    """Return the token without quotes, line breaks and the words of an HTTP header around it."""
    token = AUTHORIZATION.sub("", unquoted(text), count=1).strip()
    if not re.fullmatch(r"[\x21-\x7e]*", token):
        raise ValueError(
            f"{name} has a space, a line break or a letter that tokens do not have. Copy only the "
            "token from Label Studio's Account & Settings."
        )
    return token


def token_in(path: Path) -> str | None:
    """Return the token in a file; None if there is no such file, or an empty one.

    Raises ValueError if the file cannot be read or contains something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(
            f"LABEL_STUDIO_ACCESS_TOKEN_FILE is {path}, which cannot be read ({error.strerror}). "
            "Let this user read it."
        ) from None
    return to_token(f"The file {path}", text) or None


def to_label_studio_url(text: str) -> str:
    """Return Label Studio's address without the path of a page of its user interface."""
    url = unquoted(text)
    url = url if "://" in url else f"http://{url}"
    url = LABEL_STUDIO_PAGE.sub("", url).rstrip("/")
    try:
        Origin.of(url)
        is_plain = not set("@?#\\ \t\r\n") & set(url)
    except ValueError:
        is_plain = False
    if not is_plain:
        raise ValueError(
            "LABEL_STUDIO_HOST is not an address such as https://host/path, without user, query "
            "and fragment. Correct it. The token belongs in LABEL_STUDIO_ACCESS_TOKEN."
        )
    return url
