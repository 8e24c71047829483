"""The line to Label Studio's API: one exchange at a time, with a token and with limits.

The token goes to Label Studio's own address, and along no redirect.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import requests
from pydantic import BaseModel, ConfigDict, JsonValue, SecretStr, ValidationError
from urllib3.exceptions import HTTPError

from prelabel import __version__
from prelabel.errors import LabelStudioError
from prelabel.labelstudio.tokens import credentials_for, is_personal
from prelabel.net.egress import Egress
from prelabel.net.tls import tls_fault

# Connecting makes Label Studio ask the backend four times, with timeouts and retries of its own.
TIMEOUTS_S: Final = (5.0, 60.0)
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
MOST_WORDS: Final = 300  # characters of Label Studio's own words that are shown


class _Refusal(BaseModel):
    model_config = ConfigDict(extra="ignore")

    detail: JsonValue = None
    validation_errors: JsonValue = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What Label Studio answered. status: of HTTP."""

    status: int
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether it did what was asked."""
        return 200 <= self.status < 300

    @property
    def words(self) -> str:
        """What Label Studio says about a refusal: one line without markup."""
        try:
            refusal = _Refusal.model_validate_json(self.body)
        except ValidationError:
            return f"HTTP {self.status}"
        said = _strings(refusal.validation_errors) or _strings(refusal.detail)
        return " ".join(re.sub(r"<[^>]*>", "", " ".join(said)).split()) or f"HTTP {self.status}"

    @property
    def quoted(self) -> str:
        """The same, short enough for a sentence."""
        return self.words[:MOST_WORDS].rstrip(" .")


class Line:
    """Label Studio at an address, and a token for it."""

    def __init__(self, url: str, token: SecretStr, egress: Egress) -> None:
        self._url = url.rstrip("/")
        self._personal = is_personal(token)
        self._egress = egress
        self._credentials = credentials_for(self._url, token, TIMEOUTS_S, egress)

    @property
    def address(self) -> str:
        """Its address, without what may stand before an @."""
        parts = urlsplit(self._url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def ask(
        self,
        method: str,
        path: str,
        body: dict[str, JsonValue] | None = None,
        *,
        with_token: bool = True,
    ) -> Answer:
        """One exchange. What `requests` raises is dropped: it may repeat what was sent.

        Raises LabelStudioError where there is no answer, or one to somebody unknown,
        ImageFetchError where there is no access token to be had, and ProxyError.
        """
        headers = {"User-Agent": f"prelabel/{__version__}"}
        if with_token:
            headers["Authorization"] = self._credentials.authorization()
        try:
            answer, location = self._exchange(method, path, body, headers)
        except requests.exceptions.SSLError as error:
            raise LabelStudioError(f"{self.address} {tls_fault(error)}.") from None
        except requests.Timeout:
            raise LabelStudioError(
                f"{self.address} does not answer in time. Look whether Label Studio is busy, and "
                "check LABEL_STUDIO_HOST."
            ) from None
        except requests.RequestException:
            raise LabelStudioError(
                f"Nothing answers at {self.address}. Start Label Studio, or set "
                "LABEL_STUDIO_HOST to its address."
            ) from None
        except (HTTPError, ValueError):
            raise self.not_label_studio() from None
        if 300 <= answer.status < 400:
            raise LabelStudioError(
                f"{self.address} redirects to {_shown(location)}. Set LABEL_STUDIO_HOST to the "
                "address that a browser shows in the end."
            )
        if len(answer.body) > MAX_ANSWER_BYTES:
            raise self.not_label_studio()
        if answer.status == 401:
            raise LabelStudioError(self._why_unknown(answer))
        return answer

    def _exchange(
        self, method: str, path: str, body: dict[str, JsonValue] | None, headers: dict[str, str]
    ) -> tuple[Answer, str]:
        """The answer, up to a byte more than it may have, and where it redirects to."""
        with (
            self._egress.session(self._url, TIMEOUTS_S[0]) as session,
            session.request(
                method,
                self._url + path,
                json=body,
                headers=headers,
                timeout=TIMEOUTS_S,
                allow_redirects=False,
                stream=True,
            ) as response,
        ):
            content = response.raw.read(MAX_ANSWER_BYTES + 1, decode_content=True)
            return Answer(response.status_code, content), response.headers.get("Location", "")

    def _why_unknown(self, answer: Answer) -> str:
        if self._personal:
            return (
                "Label Studio takes no personal access tokens. Switch them on under Organization, "
                "API Tokens Settings, or set LABEL_STUDIO_ACCESS_TOKEN to a legacy token."
            )
        if "legacy token" in answer.words:
            return (
                "Label Studio has legacy tokens switched off. Make a personal access token under "
                "Account & Settings, and set LABEL_STUDIO_ACCESS_TOKEN to it."
            )
        return (
            "Label Studio does not know the legacy token. Copy a token from Account & Settings, "
            "and set LABEL_STUDIO_ACCESS_TOKEN to it."
        )

    def not_label_studio(self) -> LabelStudioError:
        """What to raise for an answer that Label Studio would not give."""
        return LabelStudioError(
            f"What answers at {self.address} is not Label Studio. Set LABEL_STUDIO_HOST to the "
            "address that a browser shows for it."
        )


def _shown(location: str) -> str:
    """Where a redirect leads, in short: queries may hold secrets."""
    parts = urlsplit(location)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}" if host else parts.path[:MOST_WORDS] or "elsewhere"


def _strings(value: JsonValue) -> list[str]:
    """All texts in what Label Studio answers, in order."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [text for part in value for text in _strings(part)] if isinstance(value, list) else []
