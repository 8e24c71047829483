"""Values as people write them into a shell, a .env file or a YAML: with quotes, spaces, a percent
sign or the rest of what was copied. Each function returns the plain form, or raises ValueError with
a sentence that gives the right one. No sentence repeats a value that may hold a secret.
"""

from __future__ import annotations

import re
from typing import Final

from pydantic import ValidationInfo

from prelabel.net.origin import Origin
from prelabel.net.pasted_text import named, unquoted

LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
# Pages that a browser's address bar shows. A path of another form may be the prefix under which
# Label Studio is served.
LABEL_STUDIO_PAGE: Final = re.compile(
    r"/(projects/?|projects/\d+(/.*)?|user/(login|signup|account)(/.*)?)([?#].*)?$"
)
AUTHORIZATION: Final = re.compile(r"^(authorization\s*:\s*)?((token|bearer)\s+)?", re.IGNORECASE)


def to_share(value: object, field: ValidationInfo) -> object:
    """A number from 0 to 1: `0.3`, `0,3` or `30%`; None for an empty text."""
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
            f"{named(field)} is {text[:40]!r}, which is no number from 0 to 1. "
            "Write it as in 0.3, or 30%."
        )
    return share


def to_log_level(value: object, field: ValidationInfo) -> object:
    """`DEBUG`, `INFO`, `WARNING` or `ERROR`, of any case; `warn` is WARNING. None for no text."""
    if not isinstance(value, str):
        return value
    text = unquoted(value)
    level = "WARNING" if text.upper() == "WARN" else text.upper()
    if level and level not in LOG_LEVELS:
        raise ValueError(f"{named(field)} is {text[:40]!r}. Set it to {' or '.join(LOG_LEVELS)}.")
    return level or None


def to_path(value: object) -> object:
    """A path without quotes; None for an empty text."""
    return unquoted(value) or None if isinstance(value, str) else value


def to_true(value: object, field: ValidationInfo) -> object:
    """True, or None for an empty text. Raises ValueError for what would switch it off."""
    text = unquoted(value).lower() if isinstance(value, str) else value
    if text in ("", None):
        return None
    if text in (True, "1", "true", "yes", "on", "t", "y"):
        return True
    raise ValueError(
        f"{named(field)} would switch the verification of certificates off, which this service "
        "does not do. Unset it, and set SSL_CERT_FILE to a file with your CA's certificate."
    )


def to_token(name: str, text: str) -> str:
    """A token alone: without quotes, line breaks and the header's words around it."""
    token = AUTHORIZATION.sub("", unquoted(text), count=1).strip()
    if not re.fullmatch(r"[\x21-\x7e]*", token):
        raise ValueError(
            f"{name} has a space, a line break or a letter that no token has. Copy the token alone "
            "from Label Studio's Account & Settings."
        )
    return token


def to_label_studio_url(text: str) -> str:
    """Label Studio's address, without the page that a browser shows of it."""
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
            "LABEL_STUDIO_HOST is an address such as https://host/path, without user, query "
            "and fragment. Correct it; the token has a variable of its own."
        )
    return url
