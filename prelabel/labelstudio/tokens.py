"""Label Studio's tokens: legacy tokens, and personal access tokens with their refresh.

A personal access token is a refresh token (a JSON web token). Label Studio exchanges it for an
access token, which requests send and which is valid for some minutes.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import requests
from pydantic import BaseModel, Field, SecretStr
from urllib3.exceptions import HTTPError

from prelabel import __version__
from prelabel.errors import ImageFetchError, ImageUnavailableError, ProxyError
from prelabel.labelstudio.data_urls import forgiving_base64_decode
from prelabel.net.egress import Egress
from prelabel.net.origin import Credentials
from prelabel.net.tls import tls_fault
from prelabel.net.transport import ConnectorAdapter, watchdog_for
from prelabel.settings.values import token_in

_JSON_WEB_TOKEN: Final = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*")
_MAX_RESPONSE_BYTES: Final = 64 * 1024
_RENEW_BEFORE_EXPIRY_S: Final = 30.0  # or half the lifetime, if that is less
# The threads of one request wait for the same token. They share a refusal for this long, so that
# they do not repeat the refused exchange one after the other.
_REFUSAL_VALID_S: Final = 5.0
_DEFAULT_LIFETIME_S: Final = 60.0  # of an access token whose claims cannot be read


def is_personal(token: SecretStr) -> bool:
    """Return True for a personal access token, by its form; False for a legacy token."""
    return _JSON_WEB_TOKEN.fullmatch(_plain_text(token)) is not None


def expiry_of(token: SecretStr) -> datetime | None:
    """Return when a personal access token expires, by its claims; None if it has none to read."""
    claims = _read_claims(_plain_text(token))
    try:
        return None if claims is None else datetime.fromtimestamp(claims.exp, UTC)
    except (ValueError, OverflowError, OSError):  # beyond the year 9999
        return None


def credentials_for(
    url: str, token: SecretStr, timeouts_s: tuple[float, float], egress: Egress | None = None
) -> Credentials:
    """Return the credentials for a Label Studio, for either kind of token.

    Args:
        url: Label Studio's address.
        token: A personal access token or a legacy token.
        timeouts_s: For connecting and for reading, when an access token is fetched.
        egress: The way to Label Studio; direct if None.
    """
    text = _plain_text(token)
    if is_personal(token):
        return PersonalAccessToken(url.rstrip("/"), text, timeouts_s, egress or Egress.plain())
    return LegacyToken(text)


class NoTokenNowError(ImageUnavailableError):
    """Label Studio does not answer the request for an access token now. It may later."""


class TokenFile:
    """The token in a file, of either kind. The file may appear or change at any time.

    Can be called from any thread.
    """

    def __init__(self, path: Path, make: Callable[[SecretStr], Credentials]) -> None:
        """Name the file. make: returns the credentials for a token."""
        self._path = path
        self._make = make
        self._lock = threading.Lock()
        self._token: str | None = None
        self._credentials: Credentials | None = None

    def authorization(self, refused: str | None = None) -> str:
        """Return the value of the Authorization header for the token that the file has now.

        Args:
            refused: A value that Label Studio has refused.

        Raises:
            ImageFetchError: The file has no token, or Label Studio issues no access token for it.
        """
        return self._current().authorization(refused)

    def _current(self) -> Credentials:
        try:
            token = token_in(self._path)
        except ValueError as error:
            raise ImageFetchError(str(error)) from None
        if token is None:
            raise ImageFetchError(
                "Label Studio's pictures need a token; set LABEL_STUDIO_ACCESS_TOKEN. There is "
                f"none in {self._path} (LABEL_STUDIO_ACCESS_TOKEN_FILE) either."
            )
        with self._lock:
            if self._credentials is None or token != self._token:
                self._token, self._credentials = token, self._make(SecretStr(token))
            return self._credentials


class LegacyToken:
    """A token that is sent as it is."""

    def __init__(self, token: str) -> None:
        self._token = token

    def authorization(self, refused: str | None = None) -> str:  # noqa: ARG002  there is only one
        """Return the value of the Authorization header."""
        return f"Token {self._token}"


class PersonalAccessToken:
    """A refresh token, and the current access token that Label Studio issued for it.

    Can be called from any thread. One thread at a time fetches an access token; the others wait
    for its result, which may be a refusal.
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
        self._refusal = ImageFetchError("")
        self._refused_until = 0.0

    def authorization(self, refused: str | None = None) -> str:
        """Return the value of the Authorization header with an access token that is valid.

        Args:
            refused: A value that Label Studio has refused; a new token is fetched instead of it.

        Raises:
            ImageFetchError: Label Studio issues no access token.
        """
        with self._lock:
            now = time.monotonic()
            # Another thread may have replaced the refused token while this one waited for the lock.
            if self._header is not None and self._header != refused and now < self._renew_at:
                return self._header
            if now < self._refused_until:
                raise type(self._refusal)(str(self._refusal))
            return self._renew()

    def _renew(self) -> str:
        try:
            access_token = self._fetch_access_token()
        except ImageFetchError as error:
            self._refusal = error
            self._refused_until = time.monotonic() + _REFUSAL_VALID_S
            raise
        self._header = f"Bearer {access_token}"
        lifetime_s = _lifetime_s(access_token)
        margin_s = min(_RENEW_BEFORE_EXPIRY_S, lifetime_s / 2)
        self._renew_at = time.monotonic() + lifetime_s - margin_s
        return self._header

    def _fetch_access_token(self) -> str:
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
                    raise NoTokenNowError(
                        "Label Studio did not give an access token within "
                        f"{watchdog.total_s:g} s; look whether it is overloaded."
                    ) from None
                raise

    def _send(self, request: requests.PreparedRequest, adapter: ConnectorAdapter) -> str:
        # "from None", because the exceptions of requests may quote the request with its token.
        try:
            with closing(adapter), closing(adapter.send(request, stream=True)) as response:
                return _access_token_of(response)
        except ProxyError as error:
            raise ImageFetchError(str(error)) from None
        except requests.RequestException as error:
            if fault := tls_fault(error):
                raise ImageFetchError(f"Label Studio, at LABEL_STUDIO_HOST, {fault}.") from None
            raise NoTokenNowError(
                "Label Studio cannot be reached for an access token; check LABEL_STUDIO_HOST."
            ) from None
        except (HTTPError, ValueError):
            raise ImageFetchError(
                "The server at LABEL_STUDIO_HOST gives no access token; check that it is "
                "Label Studio's address."
            ) from None


class _RefreshResponse(BaseModel):
    # The pattern keeps line breaks and other characters out of the Authorization header.
    access: str = Field(pattern=r"^[\w.~+/=-]+$")


class _Claims(BaseModel):
    """When a token was issued and when it expires, in seconds since 1970."""

    iat: int
    exp: int


def _access_token_of(response: requests.Response) -> str:
    if response.is_redirect:
        raise ImageFetchError(
            "Label Studio redirects from LABEL_STUDIO_HOST to another address; set "
            "LABEL_STUDIO_HOST to the address that a browser shows after the redirect."
        )
    if response.status_code in (400, 401, 403):
        raise ImageFetchError(
            f"Label Studio refuses the token (HTTP {response.status_code}); check "
            "LABEL_STUDIO_ACCESS_TOKEN: it may be expired or revoked."
        )
    if response.status_code != 200:
        fault = NoTokenNowError if response.status_code >= 500 else ImageFetchError
        raise fault(
            f"Label Studio gives no access token (HTTP {response.status_code}); check "
            "LABEL_STUDIO_HOST."
        )
    # Bounded, because LABEL_STUDIO_HOST may be the address of another server by mistake.
    body = response.raw.read(_MAX_RESPONSE_BYTES, decode_content=True)
    return _RefreshResponse.model_validate_json(body).access


def _plain_text(token: SecretStr) -> str:
    return token.get_secret_value().strip()


def _lifetime_s(access_token: str) -> float:
    # The difference of two claims: the clocks of both machines may differ.
    claims = _read_claims(access_token)
    return _DEFAULT_LIFETIME_S if claims is None else float(claims.exp - claims.iat)


def _read_claims(token: str) -> _Claims | None:
    try:
        return _Claims.model_validate_json(forgiving_base64_decode(token.split(".")[1].encode()))
    except (ValueError, IndexError):
        return None
