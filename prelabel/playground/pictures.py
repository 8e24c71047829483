"""The pictures of the playground's requests: inside of the request, or an example."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from prelabel.errors import ImageAddressError, PayloadTooLargeError
from prelabel.labelstudio.data_urls import decode_data_url
from prelabel.playground.examples import Example, example_of
from prelabel.settings import AppSettings

_EXAMPLE: Final = "example:"
_DATA: Final = "data:"
# Base64 of this length decodes faster than a thread is started for it.
_DECODED_IN_LOOP_CHARS: Final = 128 * 1024
_BODY_REST_BYTES: Final = 64 * 1024  # of a body that holds a picture: prompt, labels, field names


def max_image_bytes(settings: AppSettings) -> int:
    """Return the largest picture that fits both the limit of pictures and that of a body."""
    in_body = max(0, settings.limits.max_body_bytes - _BODY_REST_BYTES) * 3 // 4
    return min(settings.images.max_bytes, in_body)


async def read_picture(
    address: str, examples: Mapping[str, Example], settings: AppSettings
) -> bytes:
    """Return the encoded picture of a request. No other server is contacted.

    Args:
        address: `data:image/...;base64,...`, or `example:NAME`.
        examples: The examples by name.
        settings: The limit of a picture applies.

    Raises:
        ImageAddressError: The address has another form, or the example does not exist.
        PayloadTooLargeError: The picture is too large.
    """
    if address.startswith(_EXAMPLE):
        return example_of(examples, address.removeprefix(_EXAMPLE)).content
    if not address[: len(_DATA)].lower().startswith(_DATA):
        raise ImageAddressError(
            "The playground takes a picture itself, as data:image/...;base64,..., or example:NAME. "
            "It fetches no addresses: open the picture, save it, and drop the file."
        )
    most = settings.images.max_bytes
    if len(address) <= _DECODED_IN_LOOP_CHARS:
        image = decode_data_url(address, len(address))
    else:
        image = await asyncio.to_thread(decode_data_url, address, len(address))
    if len(image) > most:
        raise PayloadTooLargeError(
            f"The picture is larger than {most} bytes. Make it smaller, or raise images.max_bytes."
        )
    return image
