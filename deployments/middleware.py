"""ASGI middleware in front of every route, the parser of JSON bodies, and the form of errors."""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.background import BackgroundTask
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import TypedDict  # pydantic reads typing's from Python 3.12 on

from prelabel.errors import PayloadTooLargeError, PrelabelError, UnauthorizedError
from prelabel.observability.request_context import (
    NO_REQUEST,
    RequestContext,
    current_request_id,
)
from prelabel.observability.spans import Tracer
from prelabel.settings import MIB, Environment

# Label Studio sends no credentials with webhooks; see docs/developer/architecture.md.
_PATHS_WITHOUT_AUTH = {"/webhook"}
_MAX_BYTES_WITHOUT_AUTH = 8 * MIB
_MAX_REQUEST_ID_CHARS = 64
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


class ErrorBody(TypedDict):
    """The one form of an error: a sentence, its class and the id of the request."""

    error: str
    error_type: str
    request_id: str


def error_response(error: PrelabelError, background: BackgroundTask | None = None) -> JSONResponse:
    """Return the response to a request that failed as a whole.

    Args:
        error: Gives the sentence and the status.
        background: Runs after the response has been sent.
    """
    body = ErrorBody(
        error=str(error), error_type=type(error).__name__, request_id=current_request_id()
    )
    headers = {"WWW-Authenticate": 'Basic realm="prelabel"'} if error.status_code == 401 else None
    return JSONResponse(body, error.status_code, headers, background=background)


def request_context_of(scope: Scope) -> RequestContext:
    """Return the id and the trace of a request.

    The id is that of Serve's proxy or of the client, reduced to characters that are safe to log.
    """
    headers = Headers(scope=scope)
    given = headers.get("x-request-id", "")[:_MAX_REQUEST_ID_CHARS]
    request_id = "".join(char for char in given if char.isalnum() or char in "-_.")
    return RequestContext(request_id or NO_REQUEST, headers.get("traceparent", ""))


class RequestContextMiddleware:
    """Sets the request's id and trace for everything that runs inside."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application in the request's context."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._tracer.restore(request_context_of(scope)):
            await self._app(scope, receive, send)


class BasicAuth:
    """Requires the configured user name and password; lets all requests pass if both are unset."""

    def __init__(self, app: ASGIApp, environment: Environment) -> None:
        self._app = app
        self._is_open = not environment.has_basic_auth
        self._user = environment.basic_auth_user
        self._password = environment.basic_auth_pass

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, or answer 401."""
        is_allowed = scope["type"] != "http" or _needs_no_auth(scope)
        if is_allowed or self._matches(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        error = UnauthorizedError(
            "User name or password is missing or wrong. Set both where the model is connected in "
            "Label Studio, as in BASIC_AUTH_USER and BASIC_AUTH_PASS."
        )
        await error_response(error)(scope, receive, send)

    def _matches(self, headers: Headers) -> bool:
        if self._is_open:
            return True
        scheme, _, encoded = headers.get("authorization", "").partition(" ")
        try:
            given = base64.b64decode(encoded, validate=True)
        except ValueError:
            return False
        password = self._password.get_secret_value() if self._password else ""
        expected = f"{self._user or ''}:{password}".encode()
        return scheme.lower() == "basic" and secrets.compare_digest(given, expected)


def _needs_no_auth(scope: Scope) -> bool:
    return scope["path"].removeprefix(scope.get("root_path", "")) in _PATHS_WITHOUT_AUTH


class BodyLimit:
    """Refuses bodies over the limit, by their declared length or as they arrive."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application with the whole body, or answer 413."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        max_bytes = self._max_bytes
        if _needs_no_auth(scope):
            max_bytes = min(max_bytes, _MAX_BYTES_WITHOUT_AUTH)
        try:
            body = await _read_body(Headers(scope=scope), receive, max_bytes)
        except PayloadTooLargeError as error:
            await error_response(error)(scope, receive, send)
            return
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        await self._app(scope, replay, send)


async def _read_body(headers: Headers, receive: Receive, max_bytes: int) -> bytes:
    declared = headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    body = bytearray()
    has_more = True
    while has_more:
        message = await receive()
        body += message.get("body", b"")
        has_more = message.get("more_body", False)
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(body)


def _too_large(max_bytes: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(
        f"The request is larger than {max_bytes / MIB:g} MiB. Select fewer tasks, or raise "
        "limits.max_body_bytes."
    )


class JsonRoute(APIRoute):
    """A route that answers bodies that are not valid JSON with 422."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler; FastAPI calls this when the route is added."""
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            return await handle(_JsonRequest(request.scope, request.receive))

        return handle_json


class _JsonRequest(Request):
    async def json(self) -> Any:
        """Parse the body.

        Raises:
            JSONDecodeError: The body is not JSON. Also raised for encodings other than UTF-8, deep
                nesting and numbers of thousands of digits, for which Python raises other errors.
        """
        body = await self.body()
        try:
            parsed = json.loads(body.decode("utf-8-sig"))
            if _SURROGATE_ESCAPE.search(body):
                # A lone surrogate cannot be encoded in an answer or a file. Replaced, as in
                # browsers.
                replaced = json.dumps(parsed, ensure_ascii=False).encode(errors="replace")
                parsed = json.loads(replaced)
        except (ValueError, RecursionError) as error:
            raise json.JSONDecodeError(str(error)[:100], "", 0) from None
        return parsed
