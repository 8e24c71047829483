"""Waiting for a service that is starting, over HTTP on loopback."""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time
from collections.abc import Callable

import pytest

from prelabel.cli import service_client
from prelabel.cli.service_client import (
    ServiceClient,
    ServiceError,
    ServiceStartingError,
    ServiceUnreachableError,
)
from prelabel.cli.service_start import wait_until_up
from prelabel.net.egress import Egress
from tests.support.http_server import Exchange, LocalServer, Received, serve

# As HAProxy, and Serve's own proxy, answer before an application is there.
NO_ROUTE = b"Path '/health' not found. Ping http://.../-/routes for available routes."
LONG_S = 60


def fail(waited_s: float) -> None:
    pytest.fail(f"waited for {waited_s} s")


def no_route(exchange: Exchange) -> None:
    exchange.answer(404, NO_ROUTE, Content_Type="text/plain")


def hang(exchange: Exchange) -> None:
    time.sleep(0.4)


def health(status: str | None) -> Callable[[Exchange], None]:
    said = {"status": status} if status else {}
    model = {"name": "demo", "title": "Demo"}
    body = {"service_version": "1", "model_version": "2", "model": model, **said}
    return lambda exchange: exchange.answer(200, json.dumps(body).encode())


def answering(*answers: Callable[[Exchange], None]) -> Callable[[Exchange, Received], None]:
    """Each in turn, and then the last one again."""
    turns = itertools.chain(answers, itertools.repeat(answers[-1]))
    return lambda exchange, _: next(turns)(exchange)


def client(url: str) -> ServiceClient:
    return ServiceClient(url, None, Egress.plain())


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_client, "_HEALTH_READ_TIMEOUT_S", 0.2)
    monkeypatch.setattr("prelabel.cli.service_start._POLL_INTERVAL_S", 0.01)


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def test_all_that_a_start_goes_through_is_waited_for() -> None:
    waited: list[float] = []
    steps = (no_route, no_route, hang, health("STARTING"), health("UP"))
    with serve(answering(*steps)) as server:
        wait_until_up(client(server.url), LONG_S, waited.append)
        assert [each.path for each in server.received] == ["/health"] * 5
    assert len(waited) == 4
    assert waited == sorted(waited)


def test_a_service_that_is_up_is_asked_once_and_nothing_is_said() -> None:
    for status in ("UP", None):  # None: one of an older version
        with serve(answering(health(status))) as server:
            wait_until_up(client(server.url), LONG_S, fail)
            assert len(server.received) == 1


def test_a_port_on_this_machine_that_is_not_open_yet_is_waited_for(closed_port: int) -> None:
    opened: list[LocalServer] = []

    def open_it(_: float) -> None:
        if not opened:
            server = LocalServer(answering(health("UP")))
            server.server_close()
            server.server_address = ("127.0.0.1", closed_port)
            server.socket = socket.create_server(("127.0.0.1", closed_port))
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            opened.append(server)

    wait_until_up(client(f"http://127.0.0.1:{closed_port}"), LONG_S, open_it)
    [server] = opened
    assert len(server.received) == 1
    server.shutdown()
    server.server_close()


def test_where_nothing_ever_listens_the_command_that_starts_it_is_named(closed_port: int) -> None:
    waited: list[float] = []
    with pytest.raises(ServiceUnreachableError, match="Start it with `make serve`"):
        wait_until_up(client(f"http://localhost:{closed_port}"), 0.8, waited.append)
    assert waited
    assert max(waited) < 0.8 / 3


def test_another_machine_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise ServiceUnreachableError("No service answers.")

    monkeypatch.setattr(ServiceClient, "health", refused)
    with pytest.raises(ServiceUnreachableError):
        wait_until_up(client("http://service.example:9090"), LONG_S, fail)


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        (no_route, "Ray Serve answers at .*, and the service is not there yet"),
        (hang, "accepts connections and does not answer"),
        (health("STARTING"), "its model is not loaded yet"),
    ],
)
def test_a_start_that_does_not_end_is_given_up(
    step: Callable[[Exchange], None], sentence: str
) -> None:
    with serve(answering(step)) as server, pytest.raises(ServiceStartingError, match=sentence):
        wait_until_up(client(server.url), 0.3, lambda _: None)


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        (health("DOWN"), "could not load its model"),
        (lambda exchange: exchange.answer(401), "BASIC_AUTH_USER"),
        (lambda exchange: exchange.answer(404, b"not here"), "Check the URL"),
    ],
)
def test_what_no_waiting_cures_is_said_at_once(
    step: Callable[[Exchange], None], sentence: str
) -> None:
    with serve(answering(step)) as server:
        with pytest.raises(ServiceError, match=sentence):
            wait_until_up(client(server.url), LONG_S, fail)
        assert len(server.received) == 1
