"""A task's image value -> the request that fetches the picture, or the picture itself.

Locating fetches nothing. Only requests to Label Studio itself carry its credentials, which
`prelabel.images.fetch` turns into a header when it sends the request.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
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
from prelabel.labelstudio.tokens import credentials_for
from prelabel.net.egress import Egress
from prelabel.net.origin import DEFAULT_PORTS, Credentials
from prelabel.net.tls import tls_fault
from prelabel.net.transport import ConnectorAdapter, watchdog_for

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
        token: SecretStr | None,
        *,
        max_image_bytes: int,
        connect_timeout_s: float,
        timeout_s: float,
        egress: Egress | None = None,
    ) -> None:
        """Create a locator.

        Args:
            url: Label Studio's address (LABEL_STUDIO_HOST), with its path prefix if it has one.
            token: Label Studio's token; either kind.
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
            self._credentials = credentials_for(self._url, token, timeouts_s, egress)

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
        """path: relative to Label Studio's address; None if it is not one of Label Studio's."""
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
