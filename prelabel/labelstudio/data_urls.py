"""Pictures inside of `data:` URLs, and base64 as browsers accept it."""

from __future__ import annotations

import base64
import re
from typing import Final
from urllib.parse import unquote_to_bytes

from prelabel.errors import ImageAddressError, ImageFetchError

_IMAGE_HEAD: Final = re.compile(r"data:image/[^,]*;base64", re.IGNORECASE)
_TO_STANDARD_ALPHABET: Final = bytes.maketrans(b"-_", b"+/")


def decode_data_url(url: str, max_bytes: int) -> bytes:
    """Return the encoded picture in a `data:` URL.

    Raises:
        ImageAddressError: The URL is not of the form data:image/...;base64,... or is damaged.
        ImageFetchError: The picture is larger than `max_bytes`.
    """
    head, comma, payload = url.partition(",")
    if not comma or not _IMAGE_HEAD.fullmatch(head):
        raise ImageAddressError(
            "The picture's data: address is not of the form data:image/...;base64,...; "
            "correct it in the task."
        )
    try:
        image = forgiving_base64_decode(unquote_to_bytes(payload))
    except ValueError:
        raise ImageAddressError(
            "The picture's data: address is not valid base64; correct it in the task."
        ) from None
    if len(image) > max_bytes:
        raise ImageFetchError(
            f"The picture is larger than {max_bytes} bytes; make it smaller or raise "
            "images.max_bytes."
        )
    return image


def forgiving_base64_decode(text: bytes) -> bytes:
    """Decode base64 in either alphabet; padding and line breaks are optional, as in browsers.

    Raises:
        ValueError: The text is not base64 (binascii.Error).
    """
    text = b"".join(text.split()).rstrip(b"=").translate(_TO_STANDARD_ALPHABET)
    return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
