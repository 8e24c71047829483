"""Secrets that are easy to find again are in no log line, no answer and no foreign request.

The whole library is driven, around a service of its own, through what can go wrong. Label Studio
and a foreign host are servers on loopback that write down all that they get.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from prelabel.errors import PrelabelError
from prelabel.service import image_download
from prelabel.settings import AppSettings, Environment
from tests.support.canaries import (
    ACCESS,
    BASIC,
    LEGACY,
    PASSWORD,
    PERSONAL,
    REDIS_PASSWORD,
    USER,
    found_in,
)
from tests.support.hostile_images import png
from tests.support.http_server import Exchange, LocalServer, Network, Received, serve
from tests.support.local_service import LocalService

FOREIGN = "93.184.216.34"
PICTURE = png((8, 8))
CONFIG = (
    '<View><TextArea name="prompt" toName="image"/><Image name="image" value="$image"/>'
    '<RectangleLabels name="label" toName="image"><Label value="cat"/></RectangleLabels></View>'
)


@pytest.fixture
def foreign() -> Iterator[LocalServer]:
    def respond(exchange: Exchange, received: Received) -> None:
        if received.path.startswith("/back"):  # to Label Studio, without a token this time
            exchange.answer(302, Location=f"{studio_url[0]}/data/upload/1/a.png")
        elif received.path.startswith("/401"):
            exchange.answer(401, b"who?", WWW_Authenticate='Basic realm="give me yours"')
        else:
            exchange.answer(200, PICTURE)

    studio_url = [""]
    with serve(respond) as server:
        server.studio_url = studio_url  # type: ignore[attr-defined]
        yield server


@pytest.fixture
def studio(foreign: LocalServer) -> Iterator[LocalServer]:
    """Its pictures' names say how it answers: /data/upload/302/..., and what it redirects to."""

    def respond(exchange: Exchange, received: Received) -> None:
        _, kind, _, how, *_ = (*received.path.split("/"), "", "", "", "")
        if received.path == "/api/token/refresh/":
            exchange.answer(200, json.dumps({"access": ACCESS}).encode())
        elif how.startswith("30"):
            exchange.answer(int(how), Location=f"http://foreign.example/{kind}?from=studio")
        elif kind == "tasks":
            exchange.answer(302, Location="http://foreign.example/bucket/key?signature=1")
        elif how.isdecimal() and int(how) >= 400:
            echo = json.dumps(received.headers).encode()  # the server repeats what it was sent
            exchange.answer(int(how), echo, X_Echo=received.headers.get("Authorization", ""))
        elif how == "broken":
            exchange.answer(200, b"no picture " + received.headers["Authorization"].encode())
        elif how == "cut":
            exchange.send_response(200)
            exchange.send_header("Content-Length", "1000")
            exchange.end_headers()
        else:
            exchange.answer(200, PICTURE)

    with serve(respond) as server:
        foreign.studio_url[0] = server.url  # type: ignore[attr-defined]
        yield server


@pytest.fixture
def network(studio: LocalServer, foreign: LocalServer) -> Network:
    names: dict[str, list[tuple[str, ...]]] = {"foreign.example": [(FOREIGN,)]}
    return Network(names=names, behind={"127.0.0.1": studio.port, FOREIGN: foreign.port})


def environment(studio: LocalServer, token: str, redis_port: int) -> Environment:
    return Environment(
        LABEL_STUDIO_HOST=studio.url,
        LABEL_STUDIO_ACCESS_TOKEN=SecretStr(token),
        BASIC_AUTH_USER=USER,
        BASIC_AUTH_PASS=SecretStr(PASSWORD),
        PROMPTS_REDIS_URL=SecretStr(f"redis://:{REDIS_PASSWORD}@127.0.0.1:{redis_port}/0"),
    )


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port without a listener; it stays bound, so that no other process can listen there."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield int(bound.getsockname()[1])


def images(studio: LocalServer) -> list[str]:
    uploads = [
        f"/data/upload/{how}/a.png"
        for how in ("1", "301", "302", "303", "307", "308", "400", "401", "403", "404", "500")
    ]
    return [
        *uploads,
        *(studio.url + upload for upload in uploads),
        "/data/upload/broken/a.png",
        "/data/upload/cut/a.png",
        "/data/local-files/?d=../../etc/passwd",
        "/data/../api/current-user/token",
        f"{studio.url}/api/current-user/token",
        f"{studio.url}/data/../api/current-user/token",
        f"http://{LEGACY}@foreign.example/",
        "s3://bucket/key",
        "gs://bucket/key",
        "azure-blob://container/key",
        "http://foreign.example/a.png",
        "http://foreign.example/back",
        "http://foreign.example/401",
        "http://foreign.example:8081/a.png",
        "http://127.0.0.1:1/a.png",
        "http://nowhere.example/a.png",
        "data:image/png;base64,AAAA",
        "file:///proc/self/environ",
    ]


def predict_body(studio: LocalServer, project: str | None) -> dict[str, Any]:
    tasks = [{"id": n, "data": {"image": image}} for n, image in enumerate(images(studio))]
    return {"tasks": tasks, "label_config": CONFIG, "project": project}


def drive(service: LocalService, studio: LocalServer) -> Iterator[httpx.Response]:
    """Send requests that fail in every way."""
    known = {"Authorization": f"Basic {BASIC}", "Content-Type": "application/json"}
    for body in (predict_body(studio, None), predict_body(studio, "1.1"), {"tasks": 5}, {}):
        yield service.ask("POST", "/predict", json.dumps(body).encode(), known)
    yield service.ask("POST", "/setup", json.dumps({"schema": "<View>"}).encode(), known)
    yield service.ask("POST", "/predict", b"{", known)
    event = {"action": "ANNOTATION_CREATED", "project": {"id": 1}, "annotation": {"result": []}}
    yield service.ask("POST", "/webhook", json.dumps(event).encode(), known)
    shown = (
        "/",
        "/health",
        "/versions",
        "/metrics",
        "/errors",
        "/prompts",
        "/docs",
        "/openapi.json",
    )
    for path in shown:
        yield service.ask("GET", path, headers=known)
    for authorization in ("", "Basic", "Basic !", f"Bearer {LEGACY}", f"Basic {BASIC}x"):
        yield service.ask("GET", "/health", headers={"Authorization": authorization})


@pytest.mark.parametrize("token", [LEGACY, PERSONAL])
def test_canaries_stay_where_they_belong(
    token: str,
    studio: LocalServer,
    foreign: LocalServer,
    network: Network,
    closed_port: int,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    service = LocalService(environment(studio, token, closed_port), network)
    answers = list(drive(service, studio))
    statuses = {answer.status_code for answer in answers}
    assert {200, 401, 422, 503} <= statuses, "the drive went where it should"
    assert b'"result"' in answers[0].content

    sent = LEGACY if token == LEGACY else ACCESS
    assert sent in str(studio.received), "Label Studio itself gets the token"
    assert len(foreign.received) > 10, "the foreign host was contacted"
    for received in foreign.received:
        assert not found_in((received.path, received.headers, received.body))
        assert not {"authorization", "cookie", "referer"} & {n.lower() for n in received.headers}
    for answer in answers:
        assert not found_in(answer.text), answer.url
        assert not found_in(answer.headers)
    for record in caplog.records:
        assert not found_in(logging.Formatter().format(record))
        assert not found_in({n: v for n, v in vars(record).items() if n != "exc_info"})
    assert not found_in(capfd.readouterr())


def test_a_redis_error_that_repeats_the_password_is_not_shown(
    studio: LocalServer, network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    heard: list[bytes] = []

    def repeat(connection: socket.socket) -> None:
        while heard_now := connection.recv(65_536):
            heard.append(heard_now)
            connection.sendall(b"-WRONGPASS " + b"".join(heard).replace(b"\r\n", b" ") + b"\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)

        def accept() -> None:
            try:
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.settimeout(5)
                        repeat(connection)
            except OSError:
                return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        service = LocalService(environment(studio, LEGACY, int(listener.getsockname()[1])), network)
        answers = list(drive(service, studio))
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(6)
    assert REDIS_PASSWORD.encode() in b"".join(heard)
    assert any("Redis" in answer.text for answer in answers)
    assert not any(found_in(answer.text) for answer in answers)
    assert not found_in(caplog.text)


def test_secrets_show_in_no_representation_and_no_traceback(
    studio: LocalServer, network: Network, closed_port: int
) -> None:
    for token in (LEGACY, PERSONAL):
        secrets = environment(studio, token, closed_port)
        service = LocalService(secrets, network)
        shown = [repr(secrets), str(secrets), repr(secrets.model_dump())]
        shown += [secrets.model_dump_json(), repr(vars(service)), repr(vars(service.service))]
        download = image_download(AppSettings(), secrets, network.resolve, network.connect)
        with pytest.raises(PrelabelError) as caught:
            download("/data/upload/401/a.png", 1)
        shown += traceback.format_exception(caught.value)
        with pytest.raises(PrelabelError) as caught:
            asyncio.run(service.prompts.recall("1.1"))
        shown.append(str(caught.value))
        assert not any(found_in(text) for text in shown)
