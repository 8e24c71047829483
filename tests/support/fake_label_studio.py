"""A fake Label Studio: the part of its API that the commands use, with the answers of 1.23.2.

It asks backends for `/health` and `/setup`, as the real one does.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests

from tests.support.http_server import Exchange, LocalServer, Received, serve

Json = dict[str, Any]

LEGACY = "0123456789abcdef0123456789abcdef01234567"
ACCESS = "eyJhY2Nlc3M.eyJhY2Nlc3M.c2ln"
USER = "annotator@example.com"
CONFIG = (
    '<View><TextArea name="prompt" toName="image"/><Image name="image" value="$image"/>'
    '<RectangleLabels name="label" toName="image"><Label value="cat"/></RectangleLabels></View>'
)
BLOCKED = "URL resolves to a reserved network address (block: 127.0.0.0/8)"


def personal_token(exp: int = 8_000_000_000) -> str:
    """Return a personal access token that expires at this time."""
    parts: tuple[Json, ...] = ({"alg": "HS256"}, {"token_type": "refresh", "iat": 1, "exp": exp})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts]
    return ".".join(part.rstrip("=") for part in encoded) + ".c2lnbmF0dXJl"


class RefusedError(Exception):
    """The answer is an error."""

    def __init__(self, status: int, detail: str, errors: Json | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.body = {"status_code": status, "detail": detail, "validation_errors": errors}


@dataclass
class LabelStudio:
    """Its records and switches.

    blocks: "all" private addresses, as by default; those of "webhooks" with ML_BLOCK_LOCAL_IP=false
    alone; "nothing" with both variables.
    """

    token: str = field(default_factory=personal_token)
    takes_legacy: bool = False
    takes_personal: bool = True
    blocks: str = "nothing"
    may_connect: bool = True
    config: str = CONFIG
    project: Json = field(default_factory=dict)
    tasks: list[Json] = field(default_factory=list)
    backends: list[Json] = field(default_factory=list)
    webhooks: list[Json] = field(default_factory=list)
    location: str | None = None
    access: str = ACCESS

    def __post_init__(self) -> None:
        self.project = {
            "id": 3,
            "title": "Cats",
            "label_config": self.config,
            "created_at": "2026-11-22T12:05:50.575614Z",
            "show_collab_predictions": True,
            "model_version": "",
            **self.project,
        }

    def respond(self, exchange: Exchange, received: Received) -> None:
        if self.location is not None:
            exchange.answer(302, Location=self.location)
            return
        try:
            status, body = self._answer(received)
        except RefusedError as refused:
            status, body = refused.status, refused.body
        exchange.answer(status, b"" if body is None else json.dumps(body).encode())

    def _answer(self, received: Received) -> tuple[int, Any]:
        url = urlsplit(received.path)
        sent: Json = json.loads(received.body or b"{}")
        if url.path == "/api/version/":
            return 200, {"release": "1.23.2", "label-studio-os-package": {}}
        if url.path == "/health":
            return 200, {"status": "UP"}
        if url.path == "/api/token/refresh/":
            if sent != {"refresh": self.token}:
                raise RefusedError(401, "Token is blacklisted")
            return 200, {"access": self.access}
        self._check(received.headers.get("Authorization"))
        if url.path == "/api/current-user/whoami":
            return 200, {"id": 1, "email": USER, "username": "annotator"}
        if found := re.fullmatch(r"/api/projects/(\d+)/(tasks/)?", url.path):
            return 200, self._of_project(int(found[1]), bool(found[2]), received.method, sent)
        if url.path.startswith("/api/ml/"):
            wanted = [int(n) for n in parse_qs(url.query).get("project", [])]
            return self._of_backends(received.method, url.path, wanted, sent)
        if url.path == "/api/webhooks/":
            return self._of_webhooks(received.method, sent)
        raise RefusedError(404, "Not found.")

    def _check(self, authorization: str | None) -> None:
        if authorization == f"Token {LEGACY}":
            if not self.takes_legacy:
                raise RefusedError(
                    401,
                    "Authentication token no longer valid: legacy token authentication has been "
                    "disabled for this organization",
                )
        elif authorization != f"Bearer {self.access}" or not self.takes_personal:
            raise RefusedError(401, "Invalid token.")

    def _of_project(self, number: int, tasks: bool, method: str, sent: Json) -> Any:
        if number != self.project["id"]:
            raise RefusedError(404, "No Project matches the given query.")
        if method == "PATCH":
            self.project |= sent
        return self.tasks[:1] if tasks else self.project

    def _of_backends(
        self, method: str, path: str, wanted: list[int], sent: Json
    ) -> tuple[int, Any]:
        if method == "GET":
            assert wanted == [self.project["id"]]
            for backend in self.backends:
                self._update_state(backend)
            return 200, [self._shown(backend) for backend in self.backends]
        if method == "POST":
            assert path == "/api/ml/"
            self._validate(sent)
            backend = {"id": 40 + len(self.backends), **sent}
            self.backends.append(backend)
            self._notify(backend)
            if self.project["show_collab_predictions"] and not self.project["model_version"]:
                self.project["model_version"] = backend["title"]
            return 201, self._shown(backend)
        [backend] = [b for b in self.backends if path == f"/api/ml/{b['id']}"]
        if method == "DELETE":
            self.backends.remove(backend)
            return 204, None
        self._validate(sent)
        backend |= sent
        return 200, self._shown(backend)

    def _validate(self, sent: Json) -> None:
        if not self.may_connect:
            raise RefusedError(403, "You do not have permission to perform this action.")
        assert sent["project"] == self.project["id"], "it asks the backend of the request"
        if self.blocks == "all":
            raise RefusedError(403, BLOCKED)
        health = self._update_state(sent)
        if health == 401:
            raise _invalid(
                "Able to connect to ML Server, but authentication parameters were either not "
                "provided or are incorrect."
            )
        if health == 0:
            raise _invalid(
                f"Can't connect to ML backend {sent['url']}, health check failed. Make sure it is "
                "up and your firewall is properly configured. <a href='x'>Learn more</a>"
            )
        if sent["state"] == "ER":
            raise _invalid(
                f"Successfully connected to {sent['url']} but it doesn't look like a valid ML "
                "backend. Reason: 422 Client Error."
            )

    def _update_state(self, backend: Json) -> int:
        """Ask the backend for /health; return the status, 0 without an answer."""
        user, password = backend.get("basic_auth_user"), backend.get("basic_auth_pass")
        auth = (user, password) if user and password else None
        backend["state"] = "DI"
        if self.blocks == "all":
            return 0
        try:
            health = requests.get(f"{backend['url']}/health", auth=auth, timeout=5)
            if not health.ok:
                return health.status_code
            body = {"project": "3.1795349150", "schema": self.project["label_config"]}
            setup = requests.post(f"{backend['url']}/setup", json=body, auth=auth, timeout=5)
        except requests.ConnectionError:
            return 0
        backend["state"] = "CO" if setup.ok else "ER"
        backend["model_version"] = setup.json().get("model_version")
        return health.status_code

    def _notify(self, backend: Json) -> None:
        url = backend["url"].rstrip("/") + "/webhook"
        if self.blocks == "webhooks":
            raise RefusedError(403, BLOCKED)
        if _is_valid(url):  # and nothing is said where it is not
            self.webhooks.append({"id": 1, "url": url})

    def _of_webhooks(self, method: str, sent: Json) -> tuple[int, Any]:
        if method == "GET":
            return 200, self.webhooks
        if self.blocks != "nothing":
            raise RefusedError(403, BLOCKED)
        if not _is_valid(sent["url"]):
            raise RefusedError(400, "Validation error", {"url": ["Enter a valid URL."]})
        self.webhooks.append({"id": 2, **sent})
        return 201, sent

    def _shown(self, backend: Json) -> Json:
        names = {"CO": "Connected", "DI": "Disconnected", "ER": "Error"}
        shown = {name: value for name, value in backend.items() if name != "basic_auth_pass"}
        return {**shown, "readable_state": names[backend["state"]], "error_message": None}


def _invalid(sentence: str) -> RefusedError:
    return RefusedError(400, "Validation error", {"non_field_errors": [sentence]})


def _is_valid(url: str) -> bool:
    """Return True for an address that Django accepts: its host is localhost, or has a dot."""
    host = urlsplit(url).hostname or ""
    return host == "localhost" or "." in host


@contextmanager
def running(studio: LabelStudio) -> Iterator[LocalServer]:
    """The server, until the block ends."""
    with serve(studio.respond) as server:
        yield server
