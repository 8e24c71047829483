"""How to get the picture of a task, and the token that Label Studio gives it for.

Nothing is fetched here but access tokens: `locate` says where a picture is, and who fetches it
asks the credentials for the header when the time has come.
"""

from __future__ import annotations

import base64
import re
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import unquote_to_bytes

import requests
from pydantic import BaseModel, Field, SecretStr
from urllib3.exceptions import HTTPError

from prelabel import __version__
from prelabel.errors import ImageAddressError, ImageFetchError, ProxyError
from prelabel.labelstudio.image_urls import (
    is_unmistakable,
    own_key,
    own_path,
    own_url,
    with_scheme,
)
from prelabel.net.egress import Egress
from prelabel.net.origin import DEFAULT_PORTS, Credentials
from prelabel.net.tls import tls_fault
from prelabel.net.transport import ConnectorAdapter, watchdog_for

CLOUD_SCHEMES: Final = frozenset({"s3", "gs", "azure-blob"})
CLOUD_URI: Final = re.compile(
    r"[\w-]+://[^\s/\\\x00-\x1f\x7f\ud800-\udfff]+(/[^\x00-\x1f\x7f\ud800-\udfff]*)?"
)

SET_BOTH: Final = "If that is Label Studio, set LABEL_STUDIO_HOST and LABEL_STUDIO_ACCESS_TOKEN."
JSON_WEB_TOKEN: Final = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*")
MAX_TOKEN_BYTES: Final = 64 * 1024
RENEW_BEFORE_EXPIRY_S: Final = 30.0  # or half the lifetime, if that is less
# The waiting threads of a request share a refusal instead of running into it one after another.
REMEMBER_REFUSAL_S: Final = 5.0
UNREADABLE_LIFETIME_S: Final = 60.0
INLINE_IMAGE: Final = re.compile(r"data:image/[^,]*;base64", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """Where a picture is; `credentials` only where that is Label Studio itself.

    hint: what else to say where it does not arrive.
    """

    url: str
    credentials: Credentials | None
    hint: str = ""


class LabelStudioClient:
    """Knows Label Studio's address and token. Can be called from any thread.

    url: Label Studio's address, with the path prefix if it is served under one.
    timeout_s: longest wait for an access token, seconds.
    egress: the way to Label Studio; without it, direct.
    """

    def __init__(
        self,
        url: str | None,
        token: SecretStr | None,
        *,
        max_image_bytes: int,
        connect_timeout_s: float,
        timeout_s: float,
        egress: Egress | None = None,
    ) -> None:
        self._url = None if url is None else url.rstrip("/")
        self._max_image_bytes = max_image_bytes
        self._credentials: Credentials | None = None
        if token is not None and self._url is not None:
            timeouts_s = (connect_timeout_s, timeout_s)
            self._credentials = credentials_for(self._url, token, timeouts_s, egress)

    def locate(self, address: str, task_id: int | None) -> ImageRequest | bytes:
        """Where the picture behind a task's image value is, or the picture if the value holds it.

        Raises ImageAddressError for a value that is no picture's address, ImageFetchError if it
        is Label Studio's and Label Studio's own address is not known.
        """
        address = address.strip()
        if address.startswith("//"):
            address = with_scheme(address, self._url)
        scheme = address.partition(":")[0].lower()
        if scheme in DEFAULT_PORTS:
            return self._absolute(address)
        if address.startswith("/"):
            return self._own(own_path(address, self._url or ""))
        if scheme in CLOUD_SCHEMES:
            return self._presigned(address, task_id)
        if scheme == "data":
            return _inline_image(address, self._max_image_bytes)
        if key := own_key(address):
            return self._own(key)
        raise ImageAddressError(
            "The picture's address is none that can be fetched; use an upload to Label Studio, "
            "http(s)://, s3://, gs://, azure-blob:// or data:image/...;base64."
        )

    def _own(self, path: str | None) -> ImageRequest:
        """A path of Label Studio's, as it is called there; None for another path."""
        url = self._require_url()
        if path is None:
            raise ImageAddressError(
                "The picture's path is none of Label Studio's (such as /data/upload/...); "
                "correct it in the task. Files of this server are never read."
            )
        return ImageRequest(url + path, self._credentials)

    def _absolute(self, address: str) -> ImageRequest:
        """An http(s) URL: Label Studio's, however it calls itself there, or another server's."""
        if self._url is None:
            return ImageRequest(address, None, SET_BOTH if is_unmistakable(address) else "")
        own = own_url(address, self._url)
        if own is None:
            return ImageRequest(address, None)
        if not own.foreign:
            return ImageRequest(own.url, self._credentials)
        return ImageRequest(
            own.url,
            self._credentials,
            f"The task says {own.foreign}, which is not the host of LABEL_STUDIO_HOST, where its "
            "picture was asked for because the path is Label Studio's; check LABEL_STUDIO_HOST.",
        )

    def _presigned(self, uri: str, task_id: int | None) -> ImageRequest:
        """Label Studio's redirect to the signed URL of a file in cloud storage."""
        if not CLOUD_URI.fullmatch(uri):
            raise ImageAddressError(
                "The picture's address in cloud storage is not of the form s3://bucket/key; "
                "correct it in the task."
            )
        url = self._require_url()
        if task_id is None:
            raise ImageFetchError(
                "Cloud storage is read through Label Studio's tasks, and this task has no id; "
                "save the task first."
            )
        encoded = base64.urlsafe_b64encode(uri.encode()).decode()
        return ImageRequest(f"{url}/tasks/{task_id}/presign/?fileuri={encoded}", self._credentials)

    def _require_url(self) -> str:
        if self._url is None:
            raise ImageFetchError(
                "The picture is kept by Label Studio, whose address is not known here; "
                "set LABEL_STUDIO_HOST and LABEL_STUDIO_ACCESS_TOKEN."
            )
        return self._url


def is_personal(token: SecretStr) -> bool:
    """Whether it is a personal access token, by its form; else it is a legacy one."""
    return JSON_WEB_TOKEN.fullmatch(_text_of(token)) is not None


def expiry_of(token: SecretStr) -> datetime | None:
    """When a personal access token ends, by its own claims; None where it has none to read."""
    claims = _claims(_text_of(token))
    try:
        return None if claims is None else datetime.fromtimestamp(claims.exp, UTC)
    except (ValueError, OverflowError, OSError):  # centuries away, beyond what a date can say
        return None


def credentials_for(
    url: str, token: SecretStr, timeouts_s: tuple[float, float], egress: Egress | None = None
) -> Credentials:
    """What opens the Label Studio at `url`: either kind of token, told apart by its form.

    timeouts_s: to connect and to read, for the access token that a personal one is exchanged for.
    egress: the way there; without it, direct.
    """
    text = _text_of(token)
    if is_personal(token):
        return PersonalAccessToken(url.rstrip("/"), text, timeouts_s, egress or Egress.plain())
    return LegacyToken(text)


def _text_of(token: SecretStr) -> str:
    return token.get_secret_value().strip()


class LegacyToken:
    """A token that is sent as it is."""

    def __init__(self, token: str) -> None:
        self._token = token

    def authorization(self, refused: str | None = None) -> str:  # noqa: ARG002  no other to give
        """The one value there is."""
        return f"Token {self._token}"


class _Refreshed(BaseModel):
    """Label Studio's answer to a refresh; nothing but a token may get into a header."""

    access: str = Field(pattern=r"^[\w.~+/=-]+$")


class _Claims(BaseModel):
    """When a token was made and when it ends, seconds since 1970."""

    iat: int
    exp: int


class PersonalAccessToken:
    """A refresh token, and the access token of some minutes that Label Studio gives for it.

    One thread at a time asks for a new one; the others wait for its answer, good or bad.
    """

    def __init__(
        self, url: str, token: str, timeouts_s: tuple[float, float], egress: Egress
    ) -> None:
        self._url = f"{url}/api/token/refresh/"
        self._token = token
        self._timeouts_s = timeouts_s
        self._egress = egress
        self._lock = threading.Lock()
        self._header: str | None = None
        self._renew_at = 0.0
        self._refusal = ""
        self._refused_until = 0.0

    def authorization(self, refused: str | None = None) -> str:
        """`Bearer` and an access token that lives, and is not the refused one.

        Raises ImageFetchError if Label Studio gives none.
        """
        with self._lock:
            now = time.monotonic()
            if self._header is not None and self._header != refused and now < self._renew_at:
                return self._header
            if now < self._refused_until:
                raise ImageFetchError(self._refusal)
            return self._renew()

    def _renew(self) -> str:
        try:
            access = self._ask()
        except ImageFetchError as error:
            self._refusal = str(error)
            self._refused_until = time.monotonic() + REMEMBER_REFUSAL_S
            raise
        self._header = f"Bearer {access}"
        lifetime_s = _lifetime_s(access)
        margin_s = min(RENEW_BEFORE_EXPIRY_S, lifetime_s / 2)
        self._renew_at = time.monotonic() + lifetime_s - margin_s
        return self._header

    def _ask(self) -> str:
        """A new access token. What `requests` raises is dropped: it may repeat what was sent."""
        request = requests.Request(
            "POST",
            self._url,
            json={"refresh": self._token},
            headers={"User-Agent": f"prelabel/{__version__}"},
        ).prepare()
        connect_s, read_s = self._timeouts_s
        with watchdog_for(connect_s + read_s) as watchdog:
            try:
                return self._send(request, self._egress.adapter(self._url, connect_s, watchdog))
            except ImageFetchError:
                if watchdog.is_over:
                    raise ImageFetchError(
                        "Label Studio did not give an access token within "
                        f"{watchdog.total_s:g} s; look whether it is overloaded."
                    ) from None
                raise

    def _send(self, request: requests.PreparedRequest, adapter: ConnectorAdapter) -> str:
        try:
            with closing(adapter), closing(adapter.send(request, stream=True)) as response:
                return _access_token(response)
        except ProxyError as error:
            raise ImageFetchError(str(error)) from None
        except requests.RequestException as error:
            if fault := tls_fault(error):
                raise ImageFetchError(f"Label Studio, at LABEL_STUDIO_HOST, {fault}.") from None
            raise ImageFetchError(
                "Label Studio cannot be reached for an access token; check LABEL_STUDIO_HOST."
            ) from None
        except (HTTPError, ValueError):
            raise ImageFetchError(
                "What answers at LABEL_STUDIO_HOST gives no access token; check that it is "
                "Label Studio's address."
            ) from None


def _access_token(response: requests.Response) -> str:
    if response.is_redirect:
        raise ImageFetchError(
            "Label Studio redirects from LABEL_STUDIO_HOST to elsewhere; set it to the address "
            "that a browser shows in the end."
        )
    if response.status_code in (400, 401, 403):
        raise ImageFetchError(
            f"Label Studio refuses the token (HTTP {response.status_code}); check "
            "LABEL_STUDIO_ACCESS_TOKEN: it may be expired or revoked."
        )
    if response.status_code != 200:
        raise ImageFetchError(
            f"Label Studio gives no access token (HTTP {response.status_code}); check "
            "LABEL_STUDIO_HOST."
        )
    body = response.raw.read(MAX_TOKEN_BYTES, decode_content=True)
    return _Refreshed.model_validate_json(body).access


def _lifetime_s(access: str) -> float:
    """Seconds that an access token lives, by its own claims, so that clocks need not agree."""
    claims = _claims(access)
    return UNREADABLE_LIFETIME_S if claims is None else float(claims.exp - claims.iat)


def _claims(token: str) -> _Claims | None:
    """What a token says about itself; None where that cannot be read."""
    try:
        return _Claims.model_validate_json(_forgiving_base64(token.split(".")[1].encode()))
    except (ValueError, IndexError):
        return None


def _inline_image(url: str, max_bytes: int) -> bytes:
    """The picture in a `data:` URL, at most `max_bytes` long."""
    head, comma, payload = url.partition(",")
    if not comma or not INLINE_IMAGE.fullmatch(head):
        raise ImageAddressError(
            "The picture's data: address is not of the form data:image/...;base64,...; "
            "correct it in the task."
        )
    try:
        image = _forgiving_base64(unquote_to_bytes(payload))
    except ValueError:
        raise ImageAddressError(
            "The picture's data: address is not valid base64; correct it in the task."
        ) from None
    if len(image) > max_bytes:
        raise ImageFetchError(
            f"The picture is larger than {max_bytes} bytes; make it smaller or raise "
            "max_image_bytes."
        )
    return image


def _forgiving_base64(text: bytes) -> bytes:
    """Base64 as browsers read it: either alphabet, padding and line breaks are optional.

    Raises ValueError (binascii.Error) for anything else.
    """
    text = b"".join(text.split()).rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
