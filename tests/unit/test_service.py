"""The routes in front of the real `Service`, without Ray."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from prelabel.errors import JournalError, PromptMemoryError
from prelabel.observability.journal import Report
from prelabel.prompts.submitted import submitted_prompt
from prelabel.settings import AppSettings, Environment, PromptSettings
from prelabel.types import PromptRequest
from tests.support.local_service import LocalService
from tests.support.result_entries import submitted

CONFIG = """<View><TextArea name="prompt" toName="image"/><Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image"><Label value="cat"/></RectangleLabels></View>"""
JSON = {"Content-Type": "application/json", "X-Request-ID": "request-1"}
PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAIAAACQkWg2AAAAFklEQVR4nGNgGAWj"
    "YBSMglEwCkbBKAAAA/AAATmdfRkAAAAASUVORK5CYII="
)
PROJECT = "3.1700000000"


@pytest.fixture
def service() -> LocalService:
    return LocalService(Environment())


def post(service: LocalService, path: str, body: dict[str, Any]) -> Any:
    return service.ask("POST", path, json.dumps(body).encode(), JSON)


def predict_body(image: str = PICTURE, project: str | None = None) -> dict[str, Any]:
    return {
        "tasks": [{"id": 1, "data": {"image": image}}],
        "label_config": CONFIG,
        "project": project,
    }


def submit(prompt: str, label_config: str = CONFIG) -> dict[str, Any]:
    return submitted(PROJECT, prompt, label_config, PICTURE)


def prompts(service: LocalService) -> list[str]:
    found = service.ask("GET", "/prompts").json()["prompts"]
    return [each["prompt"] for each in found]


async def exchange(app: Any, path: str, body: bytes, on_sent: Callable[[], None]) -> None:
    """One POST over ASGI; `on_sent` is called when the last byte of the answer has been sent."""
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in JSON.items()],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body"):
            on_sent()

    await app(scope, receive, send)


@pytest.mark.parametrize(
    ("path", "body", "count"),
    [
        ("/predict", predict_body(), "requests"),
        ("/setup", {"project": PROJECT, "schema": "<View/>"}, "requests_failed"),
    ],
)
def test_a_request_is_reported_after_its_answer_has_been_sent(
    service: LocalService,
    path: str,
    body: dict[str, Any],
    count: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reported: list[Report] = []
    monkeypatch.setattr(service.service, "report", reported.append)
    before: list[int] = []

    async def run() -> None:
        content = json.dumps(body).encode()
        await exchange(service.app, path, content, lambda: before.append(len(reported)))

    asyncio.run(run())
    assert before == [0]
    [report] = reported
    assert report.counts[count] == 1
    assert all(fault.request_id == "request-1" for fault in report.faults)


def test_a_defect_is_reported_under_its_request_s_id(
    service: LocalService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(service.service, "setup", broken)
    answer = post(service, "/setup", {"project": PROJECT})
    assert (answer.status_code, answer.json()["request_id"]) == (500, "request-1")
    [fault] = service.ask("GET", "/errors").json()["errors"]
    assert (fault["error_type"], fault["request_id"]) == ("PrelabelError", "request-1")


def test_counts_and_errors_of_answered_requests_are_in_the_journal(service: LocalService) -> None:
    post(service, "/predict", predict_body())
    post(service, "/predict", predict_body("data:image/png;base64,AAAA", PROJECT))
    metrics = service.ask("GET", "/metrics").json()
    assert metrics["requests"] == 2
    assert metrics["tasks_failed"] == 1
    assert metrics["tasks_in_progress"] == 0
    [error] = service.ask("GET", "/errors?project=3").json()["errors"]
    assert (error["error_type"], error["request_id"]) == ("ImageDecodeError", "request-1")


def test_a_journal_that_does_not_answer_costs_predictions_nothing(
    service: LocalService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise JournalError("The journal does not answer. Try again in a minute.")

    monkeypatch.setattr(service.journal, "add", fail)
    [entry] = post(service, "/predict", predict_body()).json()["results"]
    assert [region["type"] for region in entry["result"]] == ["rectanglelabels"]
    answer = service.ask("GET", "/metrics")
    assert answer.status_code == 503
    assert answer.json()["error_type"] == "JournalError"


def test_webhooks_change_the_prompts_of_known_projects_only(service: LocalService) -> None:
    assert post(service, "/webhook", submit("cat")).status_code == 201
    assert prompts(service) == []
    post(service, "/setup", {"project": PROJECT, "schema": CONFIG})
    assert post(service, "/webhook", submit("cat")).status_code == 201
    assert prompts(service) == ["cat"]
    assert service.ask("DELETE", "/prompts?project=3").json() == {"forgotten": 1}
    assert prompts(service) == []


def test_where_prompts_are_not_remembered_webhooks_are_accepted_and_ignored() -> None:
    service = LocalService(
        Environment(), settings=AppSettings(prompts=PromptSettings(remember=False))
    )
    post(service, "/setup", {"project": PROJECT, "schema": CONFIG})
    assert post(service, "/webhook", submit("cat")).status_code == 201
    assert prompts(service) == []


def test_the_labeling_config_of_a_webhook_is_parsed_outside_of_the_event_loop(
    service: LocalService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large config takes a second to parse; meanwhile the loop answers other requests."""
    loops: list[object] = []

    def parse(*args: Any) -> PromptRequest:
        loops.append(asyncio._get_running_loop())
        return submitted_prompt(*args)

    monkeypatch.setattr("prelabel.service.submitted_prompt", parse)
    post(service, "/setup", {"project": PROJECT, "schema": CONFIG})
    assert post(service, "/webhook", submit("cat")).status_code == 201
    assert prompts(service) == ["cat"]
    assert loops == [None], "the event loops of the threads that parsed"


def test_prompts_are_recalled_again_after_a_registration_that_is_new_to_this_replica(
    service: LocalService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if another replica has registered the same: its change may not have arrived here."""
    refreshes: list[int] = []

    async def refresh() -> None:
        refreshes.append(1)

    monkeypatch.setattr(service.prompts, "refresh", refresh)
    extra = {"extra_params": '{"prompt": "cat"}'}
    asyncio.run(service.prompts.register(PROJECT, PromptRequest("cat")))
    for body, expected in ((extra, 1), (extra, 1), ({}, 2), (extra, 3)):
        post(service, "/setup", {"project": PROJECT, "schema": CONFIG, **body})
        assert len(refreshes) == expected


def test_setup_succeeds_without_a_store_of_prompts(service: LocalService) -> None:
    def fail() -> Any:
        raise PromptMemoryError("Not there. Start it.")

    service.open_storage = fail
    answer = post(service, "/setup", {"project": PROJECT, "schema": CONFIG})
    assert answer.status_code == 200
    assert answer.json() == {"model_version": "demo-0123456789"}
