"""HTTP to Label Studio's REST API: one exchange at a time, with a token and with limits.

The token goes to Label Studio's own address only, and never along a redirect.
docs/developer/adr/0008 says why this is not the client of label-studio-sdk.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import requests
from pydantic import BaseModel, ConfigDict, JsonValue, SecretStr, ValidationError
from urllib3.exceptions import HTTPError

from prelabel import __version__
from prelabel.errors import LabelStudioError
from prelabel.labelstudio.tokens import NoTokenNowError, credentials_for, is_personal
from prelabel.net.egress import Egress
from prelabel.net.tls import tls_fault

# To connect and to read. While connecting a backend, Label Studio sends it four requests, with
# time-outs and retries of its own.
TIMEOUTS_S: Final = (5.0, 60.0)
MAX_BODY_BYTES: Final = 64 * 1024 * 1024
MAX_QUOTED_CHARS: Final = 300  # of Label Studio's own words in a sentence


class UnreachableError(LabelStudioError):
    """Label Studio does not answer now. It may later."""


class TooLongAnswerError(LabelStudioError):
    """The answer has more than `MAX_BODY_BYTES`."""


class _Refusal(BaseModel):
    model_config = ConfigDict(extra="ignore")

    detail: JsonValue = None
    validation_errors: JsonValue = None


@dataclass(frozen=True, slots=True)
class Response:
    """Status and body of an HTTP response, and the time that the server told in it."""

    status: int
    body: bytes
    date: str | None = None

    @property
    def ok(self) -> bool:
        """True for a status of success."""
        return 200 <= self.status < 300

    @property
    def message(self) -> str:
        """Label Studio's reason for a refusal: one line without markup."""
        try:
            refusal = _Refusal.model_validate_json(self.body)
        except ValidationError:
            return f"HTTP {self.status}"
        texts = _texts_in(refusal.validation_errors) or _texts_in(refusal.detail)
        # Messages hold links to Label Studio's documentation as HTML.
        return " ".join(re.sub(r"<[^>]*>", "", " ".join(texts)).split()) or f"HTTP {self.status}"

    @property
    def short_message(self) -> str:
        """The message, cut to the length that fits a sentence."""
        return self.message[:MAX_QUOTED_CHARS].rstrip(" .")


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """A file of an upload: its name, its bytes and its media type."""

    name: str
    content: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class _Content:
    """The body of a request: JSON, or a form with files."""

    body: JsonValue
    files: tuple[UploadedFile, ...] = ()

    @property
    def form(self) -> list[tuple[str, tuple[str, bytes, str]]] | None:
        return [(f.name, (f.name, f.content, f.media_type)) for f in self.files] or None


class LabelStudioHttp:
    """Requests to the Label Studio at an address, authenticated with a token."""

    def __init__(self, url: str, token: SecretStr, egress: Egress) -> None:
        self._url = url.rstrip("/")
        self._is_personal = is_personal(token)
        self._egress = egress
        self._credentials = credentials_for(self._url, token, TIMEOUTS_S, egress)

    @property
    def address(self) -> str:
        """Label Studio's address without user and password."""
        parts = urlsplit(self._url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def request(
        self,
        method: str,
        path: str,
        body: JsonValue = None,
        *,
        with_token: bool = True,
        files: Sequence[UploadedFile] = (),
    ) -> Response:
        """Send a request; return the response, which is no redirect and, with a token, no 401.

        Args:
            method: HTTP method.
            path: Path and query.
            body: Sent as JSON, if it is not None.
            with_token: False for a request without the token.
            files: Sent as a form in place of the body.

        Raises:
            UnreachableError: There is no response.
            LabelStudioError: Label Studio does not accept the token, or it is another server.
            ImageFetchError: Label Studio gives no access token for the personal one.
            ProxyError: The proxy does not let the request through.
        """
        content = _Content(body, tuple(files))
        if not with_token:
            return self._checked(method, path, content, {})
        authorization = self._authorization(None)
        response = self._checked(method, path, content, {"Authorization": authorization})
        if response.status == 401:
            # An access token can lose its validity before its time, as when Label Studio restarts.
            renewed = self._authorization(authorization)
            if renewed != authorization:
                response = self._checked(method, path, content, {"Authorization": renewed})
        if response.status == 401:
            raise LabelStudioError(self._token_fault(response))
        return response

    def _authorization(self, refused: str | None) -> str:
        try:
            return self._credentials.authorization(refused)
        except NoTokenNowError as error:
            raise UnreachableError(str(error)) from None

    def _checked(
        self, method: str, path: str, content: _Content, headers: dict[str, str]
    ) -> Response:
        """Return the response, which is no redirect. Raises what `request` says."""
        headers = {"User-Agent": f"prelabel/{__version__}", **headers}
        # `from None`, because the exceptions of `requests` may quote the request with its token.
        try:
            response, location = self._exchange(method, path, content, headers)
        except requests.exceptions.SSLError as error:
            raise LabelStudioError(f"{self.address} {tls_fault(error)}.") from None
        except requests.Timeout:
            raise UnreachableError(
                f"{self.address} does not answer in time. Check if Label Studio is overloaded, "
                "and check LABEL_STUDIO_HOST."
            ) from None
        except requests.RequestException:
            raise UnreachableError(
                f"Nothing answers at {self.address}. Start Label Studio, or set "
                "LABEL_STUDIO_HOST to its address."
            ) from None
        except (HTTPError, ValueError):
            raise self.not_label_studio() from None
        if 300 <= response.status < 400:
            raise LabelStudioError(
                f"{self.address} redirects to {_without_secrets(location)}. Set LABEL_STUDIO_HOST "
                "to the address that a browser shows in the end."
            )
        if len(response.body) > MAX_BODY_BYTES:
            raise TooLongAnswerError(str(self.not_label_studio()))
        return response

    def _exchange(
        self, method: str, path: str, content: _Content, headers: dict[str, str]
    ) -> tuple[Response, str]:
        """Return the response, with at most one byte over the limit, and its Location header."""
        with (
            self._egress.session(self._url, TIMEOUTS_S[0]) as session,
            session.request(
                method,
                self._url + path,
                json=content.body,
                files=content.form,
                headers=headers,
                timeout=TIMEOUTS_S,
                allow_redirects=False,
                stream=True,
            ) as response,
        ):
            received = response.raw.read(MAX_BODY_BYTES + 1, decode_content=True)
            date = response.headers.get("Date")
            location = response.headers.get("Location", "")
            return Response(response.status_code, received, date), location

    def _token_fault(self, response: Response) -> str:
        if self._is_personal:
            return (
                "Label Studio takes no personal access tokens. Switch them on under Organization, "
                "API Tokens Settings, or set LABEL_STUDIO_ACCESS_TOKEN to a legacy token."
            )
        if "legacy token" in response.message:
            return (
                "Label Studio has legacy tokens switched off. Make a personal access token under "
                "Account & Settings, and set LABEL_STUDIO_ACCESS_TOKEN to it."
            )
        return (
            "Label Studio does not know the legacy token. Copy a token from Account & Settings, "
            "and set LABEL_STUDIO_ACCESS_TOKEN to it."
        )

    def not_label_studio(self) -> LabelStudioError:
        """Return the error for a response that Label Studio would not send."""
        return LabelStudioError(
            f"The server at {self.address} is not Label Studio. Set LABEL_STUDIO_HOST to the "
            "address that a browser shows for Label Studio."
        )


def _without_secrets(location: str) -> str:
    """Return scheme and host of a redirect's target: its query may hold secrets."""
    parts = urlsplit(location)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}" if host else parts.path[:MAX_QUOTED_CHARS] or "elsewhere"


def _texts_in(value: JsonValue) -> list[str]:
    """Return all strings in a JSON value, in order."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [text for part in value for text in _texts_in(part)] if isinstance(value, list) else []
