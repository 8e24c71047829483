"""A task's image value -> the request that fetches the picture, or the picture itself.

Locating fetches nothing. Only requests to Label Studio itself carry its credentials, which
`prelabel.images.fetch` turns into a header when it sends the request.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from prelabel.errors import ImageAddressError, ImageFetchError
from prelabel.labelstudio.data_urls import decode_data_url
from prelabel.labelstudio.image_urls import (
    is_unmistakable,
    path_of_key,
    studio_path,
    studio_url,
    with_scheme,
)
from prelabel.labelstudio.tokens import TokenFile, credentials_for
from prelabel.net.egress import Egress
from prelabel.net.origin import DEFAULT_PORTS, Credentials

_CLOUD_SCHEMES: Final = frozenset({"s3", "gs", "azure-blob"})
# Without spaces and backslashes in the bucket, and without control characters and surrogates.
_CLOUD_URI: Final = re.compile(
    r"[\w-]+://[^\s/\\\x00-\x1f\x7f\ud800-\udfff]+(/[^\x00-\x1f\x7f\ud800-\udfff]*)?"
)
_SET_HOST_AND_TOKEN: Final = (
    "If that is Label Studio, set LABEL_STUDIO_HOST and LABEL_STUDIO_ACCESS_TOKEN."  # noqa: S105
)


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """The address of a picture.

    Attributes:
        url: The http(s) URL.
        credentials: Label Studio's, if the URL is Label Studio's own; else None.
        hint: A sentence that error messages about this request append.
    """

    url: str
    credentials: Credentials | None
    hint: str = ""


class ImageLocator:
    """Locates the pictures of tasks with Label Studio's address and token. Thread-safe."""

    def __init__(
        self,
        url: str | None,
        token: SecretStr | Path | None,
        *,
        max_image_bytes: int,
        connect_timeout_s: float,
        timeout_s: float,
        egress: Egress | None = None,
    ) -> None:
        """Create a locator.

        Args:
            url: Label Studio's address (LABEL_STUDIO_HOST), with its path prefix if it has one.
            token: Label Studio's token, of either kind, or the file that contains it.
            max_image_bytes: The largest picture in a `data:` URL.
            connect_timeout_s: For the connection that fetches an access token.
            timeout_s: For reading the access token.
            egress: The way to Label Studio; direct if None.
        """
        self._url = None if url is None else url.rstrip("/")
        self._max_image_bytes = max_image_bytes
        self._credentials: Credentials | None = None
        if token is not None and self._url is not None:
            timeouts_s = (connect_timeout_s, timeout_s)
            make = partial(credentials_for, self._url, timeouts_s=timeouts_s, egress=egress)
            self._credentials = TokenFile(token, make) if isinstance(token, Path) else make(token)

    def locate(self, address: str, task_id: int | None) -> ImageRequest | bytes:
        """Return the request for the picture at a task's image value, or its bytes if inline.

        Raises:
            ImageAddressError: The value is not the address of a picture.
            ImageFetchError: The picture is Label Studio's, and its address is not configured.
        """
        address = address.strip()
        # Label Studio's page completes "//host/path" by its own scheme.
        if address.startswith("//"):
            address = with_scheme(address, self._url)
        scheme = address.partition(":")[0].lower()
        if scheme in DEFAULT_PORTS:
            return self._locate_url(address)
        if address.startswith("/"):
            return self._locate_path(studio_path(address, self._url or ""))
        if scheme in _CLOUD_SCHEMES:
            return self._locate_cloud_file(address, task_id)
        if scheme == "data":
            return decode_data_url(address, self._max_image_bytes)
        # Last, because a bare key has no scheme and no leading slash to recognise it by.
        if path := path_of_key(address):
            return self._locate_path(path)
        raise ImageAddressError(
            "The picture's address cannot be fetched; use an upload to Label Studio, "
            "http(s)://, s3://, gs://, azure-blob:// or data:image/...;base64."
        )

    def _locate_path(self, path: str | None) -> ImageRequest:
        """Locate a path relative to Label Studio's address; None stands for a foreign path."""
        url = self._require_url()
        if path is None:
            raise ImageAddressError(
                "The picture's path is not one of Label Studio's (such as /data/upload/...); "
                "correct it in the task. Files of this server are never read."
            )
        return ImageRequest(url + path, self._credentials)

    def _locate_url(self, address: str) -> ImageRequest:
        """Locate an http(s) URL: a picture of Label Studio, or of another server."""
        if self._url is None:
            hint = _SET_HOST_AND_TOKEN if is_unmistakable(address) else ""
            return ImageRequest(address, None, hint)
        own = studio_url(address, self._url)
        if own is None:
            return ImageRequest(address, None)
        if not own.foreign_host:
            return ImageRequest(own.url, self._credentials)
        return ImageRequest(
            own.url,
            self._credentials,
            f"The task names {own.foreign_host}, which is not the host of LABEL_STUDIO_HOST. The "
            "picture was fetched from LABEL_STUDIO_HOST, because its path is Label Studio's; check "
            "LABEL_STUDIO_HOST.",
        )

    def _locate_cloud_file(self, uri: str, task_id: int | None) -> ImageRequest:
        """Locate the route by which Label Studio redirects to the signed URL of a cloud file."""
        if not _CLOUD_URI.fullmatch(uri):
            raise ImageAddressError(
                "The picture's address in cloud storage is not of the form s3://bucket/key; "
                "correct it in the task."
            )
        url = self._require_url()
        if task_id is None:  # 0 is an id
            raise ImageFetchError(
                "Cloud storage is read through Label Studio's tasks, and this task has no id; "
                "save the task first."
            )
        encoded = base64.urlsafe_b64encode(uri.encode()).decode()
        return ImageRequest(f"{url}/tasks/{task_id}/presign/?fileuri={encoded}", self._credentials)

    def _require_url(self) -> str:
        if self._url is None:
            raise ImageFetchError(
                "The picture is in Label Studio, whose address is not configured here; "
                "set LABEL_STUDIO_HOST and LABEL_STUDIO_ACCESS_TOKEN."
            )
        return self._url
