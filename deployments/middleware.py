"""What stands in front of every route: basic auth, the limit on bodies, and how JSON is read."""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import TypedDict  # pydantic reads typing's from Python 3.12 on

from prelabel.errors import PayloadTooLargeError, PrelabelError, UnauthorizedError
from prelabel.settings import MIB, Environment

_WITHOUT_AUTH = {"/webhook"}  # Label Studio sends no credentials there; see docs/architecture.md
_HALF_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")  # an escape that may stand for one
_MOST_OPEN_BYTES = 8 * MIB  # of those who need not show who they are


class ErrorBody(TypedDict):
    """The one form of an error: a sentence, its type and the request's id."""

    error: str
    error_type: str
    request_id: str


def error_response(error: PrelabelError, request_id: str) -> JSONResponse:
    """The answer that an error is."""
    body = ErrorBody(error=str(error), error_type=type(error).__name__, request_id=request_id)
    headers = {"WWW-Authenticate": 'Basic realm="prelabel"'} if error.status_code == 401 else None
    return JSONResponse(body, status_code=error.status_code, headers=headers)


class BasicAuth:
    """Lets in who knows the user name and password, where they are configured."""

    def __init__(self, app: ASGIApp, environment: Environment) -> None:
        self._app = app
        self._user = environment.basic_auth_user
        self._password = environment.basic_auth_pass

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401, or pass on."""
        if scope["type"] != "http" or _is_open(scope) or self._knows(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        error = UnauthorizedError(
            "User name or password is missing or wrong. Set both where the model is connected in "
            "Label Studio, as in BASIC_AUTH_USER and BASIC_AUTH_PASS."
        )
        await error_response(error, request_id_of(scope))(scope, receive, send)

    def _knows(self, headers: Headers) -> bool:
        if self._user is None and self._password is None:
            return True
        scheme, _, encoded = headers.get("authorization", "").partition(" ")
        try:
            given = base64.b64decode(encoded, validate=True)
        except ValueError:
            return False
        password = self._password.get_secret_value() if self._password else ""
        expected = f"{self._user or ''}:{password}".encode()
        return scheme.lower() == "basic" and secrets.compare_digest(given, expected)


def _is_open(scope: Scope) -> bool:
    return scope["path"].removeprefix(scope.get("root_path", "")) in _WITHOUT_AUTH


class BodyLimit:
    """Refuses bodies over the limit, by their declared length or as they arrive."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 413, or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            limit = min(self._max_bytes, _MOST_OPEN_BYTES) if _is_open(scope) else self._max_bytes
            body = await _read(Headers(scope=scope), receive, limit)
        except PayloadTooLargeError as error:
            await error_response(error, request_id_of(scope))(scope, receive, send)
            return
        first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return first.pop() if first else await receive()

        await self._app(scope, replay, send)


async def _read(headers: Headers, receive: Receive, max_bytes: int) -> bytes:
    declared = headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    body = bytearray()
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(body)


class JsonRoute(APIRoute):
    """A route that says of every body that is no JSON that it is none."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Called by FastAPI when the route is made."""
        answer = super().get_route_handler()

        async def answer_to(request: Request) -> Response:
            return await answer(_JsonRequest(request.scope, request.receive))

        return answer_to


class _JsonRequest(Request):
    async def json(self) -> Any:
        """Raises JSONDecodeError also for what Python's reader is surprised by: other encodings
        than UTF-8, depth, numbers of thousands of digits.
        """
        body = await self.body()
        try:
            parsed = json.loads(body.decode("utf-8-sig"))
            if _HALF_CHARACTER.search(body):
                # It could be written to no answer and no file. Browsers replace it, too.
                whole = json.dumps(parsed, ensure_ascii=False).encode(errors="replace")
                parsed = json.loads(whole)
        except (ValueError, RecursionError) as error:
            raise json.JSONDecodeError(str(error)[:100], "", 0) from None
        return parsed


def _too_large(max_bytes: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(
        f"The request is larger than {max_bytes / MIB:g} MiB. Select fewer tasks, or raise "
        "limits.max_body_bytes."
    )


def request_id_of(scope: Scope) -> str:
    """The id that Serve's proxy gave the request, or that its client sent; safe to log."""
    given = Headers(scope=scope).get("x-request-id", "")
    return "".join(char for char in given[:64] if char.isalnum() or char in "-_.") or "-"
