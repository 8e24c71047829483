"""Everything that a Label Studio 1.23.2 was recorded to send, replayed against the service.

The recordings name Label Studio localhost:8080 and the web localhost:8000; both become the
loopback server here. Their labels become words that the demo model knows.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from label_studio_sdk.label_interface.interface import LabelInterface

from tests.support.service_client import PASSWORD, USER, Service
from tests.support.web import CANARY, Web

CAPTURES = Path(__file__).parents[1] / "captures"
NAMES = sorted(path.stem for path in CAPTURES.glob("*.json"))
HOSTS = ("http://localhost:8080", "http://localhost:8000")
WORDS = {"cats": "red circle", "house": "blue square", "dog": "red circle"}
CREDENTIALS = {"user:pass": f"{USER}:{PASSWORD}", "user:wrong": f"{USER}:wrong"}


@dataclass(frozen=True)
class Capture:
    """One recorded request."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any] | None

    @property
    def tasks(self) -> list[dict[str, Any]]:
        return list((self.body or {})["tasks"])

    def send(self, service: Service) -> httpx.Response:
        url = service.url + self.path
        return httpx.request(
            self.method, url, json=self.body, headers=self.headers, timeout=100, trust_env=False
        )


def load(name: str, web: Web) -> Capture:
    text = (CAPTURES / f"{name}.json").read_text()
    for host in HOSTS:
        text = text.replace(host, web.url)
    for theirs, ours in WORDS.items():
        text = text.replace(theirs, ours)
    recorded = json.loads(text)
    headers = {}
    if "authorization" in recorded:
        headers["Authorization"] = _basic(recorded["authorization"])
    return Capture(recorded["method"], recorded["path"], headers, recorded["json"])


def _basic(placeholder: str) -> str:
    """`Basic <base64(user:pass)>` with the service's own user and password."""
    pair = placeholder.removeprefix("Basic <base64(").removesuffix(")>")
    return "Basic " + base64.b64encode(CREDENTIALS[pair].encode()).decode()


def picked(part: str) -> list[str]:
    """Names of recordings without auth that have this part; an empty list would test nothing."""
    names = [name for name in NAMES if part in name and not name.startswith("3")]
    assert names
    return names


@pytest.mark.parametrize("name", picked("predict"))
def test_each_task_gets_an_entry_that_label_studio_accepts(
    service: Service, web: Web, name: str
) -> None:
    capture = load(name, web)
    answer = capture.send(service)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert isinstance(body["model_version"], str)
    assert len(body["results"]) == len(capture.tasks)
    referee = LabelInterface((capture.body or {})["label_config"])
    for entry in body["results"]:
        assert entry["model_version"] == body["model_version"]
        errors = referee.validate_prediction(entry, return_errors=True)  # type: ignore[no-untyped-call]
        assert errors == []


@pytest.mark.parametrize("name", [name for name in picked("predict") if "empty" not in name])
def test_each_task_gets_boxes_labelled_by_its_project(
    service: Service, web: Web, name: str
) -> None:
    for entry in load(name, web).send(service).json()["results"]:
        labels = {label for region in entry["result"] for label in _labels(region)}
        assert labels
        assert labels <= set(WORDS.values())


def test_a_prompt_with_a_newline_asks_for_nothing_else(service: Service, web: Web) -> None:
    capture = load("11_predict_interactive_real_ui_edited_prompt_newline", web)
    [entry] = capture.send(service).json()["results"]
    assert {label for region in entry["result"] for label in _labels(region)} == {"red circle"}


def test_the_empty_context_after_a_submit_fetches_no_picture(service: Service, web: Web) -> None:
    asked = len(web.seen)
    [entry] = load("09_predict_interactive_empty_context", web).send(service).json()["results"]
    assert entry["result"] == []
    assert len(web.seen) == asked


def test_cloud_pictures_are_asked_of_label_studio(service: Service, web: Web) -> None:
    load("06_predict_bulk_retrieve", web).send(service)
    uri = base64.urlsafe_b64encode(b"s3://my-bucket/dir/img3.jpg").decode()
    assert (f"/tasks/10/presign/?fileuri={uri}", f"Token {CANARY}") in web.seen


def test_a_task_whose_picture_is_gone_has_an_error_and_no_result(
    service: Service, web: Web
) -> None:
    capture = load("06_predict_bulk_retrieve", web)
    capture.tasks[1]["data"]["image"] = f"{web.url}/missing.jpg"
    results = capture.send(service).json()["results"]
    assert ["result" in entry for entry in results] == [True, False, True, True]
    assert ["error" in entry for entry in results] == [False, True, False, False]


@pytest.mark.parametrize("name", picked("health") + picked("setup") + picked("versions"))
def test_status_calls_are_answered(service: Service, web: Web, name: str) -> None:
    answer = load(name, web).send(service)
    assert answer.status_code == 200
    wanted = {"/health": "status", "/setup": "model_version", "/versions": "versions"}
    assert answer.json()[wanted[load(name, web).path]]


@pytest.mark.parametrize("name", picked("webhook"))
def test_webhooks_are_welcome(service: Service, web: Web, name: str) -> None:
    assert load(name, web).send(service).status_code == 201


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("30_auth_missing_health_401", 401),
        ("31_auth_wrong_health_401", 401),
        ("32_auth_health_ok", 200),
        ("33_auth_setup_ok", 200),
        ("34_auth_predict_bulk", 200),
    ],
)
def test_credentials_decide(guarded: Service, web: Web, name: str, status: int) -> None:
    assert load(name, web).send(guarded).status_code == status


def _labels(region: dict[str, Any]) -> list[str]:
    return list(region["value"][region["type"]])
