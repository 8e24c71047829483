"""The number of detectors that a long run shows."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable

import pytest
from rich.console import Console

from prelabel.cli import detector_watch, progress
from prelabel.cli.detector_watch import DetectorWatch
from prelabel.cli.service_client import ServiceClient
from prelabel.net.egress import Egress
from prelabel.projects.annotate import Progress
from tests.support.http_server import Exchange, Received, serve

HEALTH = {"model_version": "v", "service_version": "1", "model": {"name": "a", "title": "A"}}


def wait_until(truth: Callable[[], bool]) -> None:
    for _ in range(1_000):
        if truth():
            return
        time.sleep(0.01)
    raise AssertionError("It did not become true.")


def test_the_number_follows_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector_watch, "_EVERY_S", 0.01)
    count: list[int | None] = [1]

    def respond(exchange: Exchange, _: Received) -> None:
        if count[0] == 0:
            exchange.answer(500)
        known = {} if count[0] is None else {"detectors": count[0]}
        exchange.answer(200, json.dumps(HEALTH | known).encode())

    with serve(respond) as server:
        client = ServiceClient(server.url, None, Egress.plain())
        with DetectorWatch(client, 4) as watch:
            assert watch.text() in ("4 detectors", "1 detector")
            wait_until(lambda: watch.text() == "1 detector")
            count[0] = 3
            wait_until(lambda: watch.text() == "3 detectors")
            count[0] = None  # a service of an older version
            wait_until(lambda: watch.text() == "")
            count[0] = 2
            wait_until(lambda: watch.text() == "2 detectors")
            count[0] = 0
            wait_until(lambda: watch.text() == "")


@pytest.mark.parametrize("terminal", [True, False])
def test_the_progress_shows_it(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.0)
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120)
    with progress.shown("Title", console, json_output=False, detail=lambda: "2 detectors") as show:
        show(Progress(10, 5, 1))
    assert isinstance(console.file, io.StringIO)
    assert "/s, 2 detectors" in console.file.getvalue()
