"""The service while its file of prompts cannot be used, and once it can: on a Ray of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.processes import free_port
from tests.support.result_entries import submitted, typed
from tests.support.scenes import SCENE
from tests.support.serve_process import serving, shipped_config
from tests.support.service_client import CONFIG, Service

PROJECT = "31.1700000000"
WITHOUT_NUMBER = CONFIG.replace('<Number name="box_threshold" toName="image" min="0" max="1"/>', "")
PATIENCE_S = 30
SENTENCE = "The file of remembered prompts cannot be used ("


@pytest.fixture(scope="module")
def blocker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file where prompts.file wants a folder: not even root can write there."""
    path = tmp_path_factory.mktemp("prompts") / "blocker"
    path.write_text("")
    return path


@pytest.fixture(scope="module")
def running(blocker: Path) -> Iterator[Service]:
    config = shipped_config()
    config["http_options"]["port"] = free_port()
    [application] = config["applications"]
    application["args"] |= {
        "prompts": {"file": f"{blocker}/prompts.sqlite"},
        "model": {"device": "cpu"},
        # As long as requests would wait, if they waited.
        "limits": {"request_deadline_s": 60},
    }
    with serving(config), requests.Session() as session:
        session.trust_env = False
        yield Service(f"http://127.0.0.1:{config['http_options']['port']}", session)


def labels(entry: dict[str, Any]) -> set[str]:
    return {label for r in entry["result"] for label in r["value"].get("rectanglelabels", ())}


def submit(text: str) -> dict[str, Any]:
    """The webhook of a submitted annotation."""
    return submitted(PROJECT, text, CONFIG, SCENE)


def faults(service: Service) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = service.get(f"/errors?project={PROJECT}").json()["errors"]
    return found


def test_predictions_are_made_without_what_is_remembered(running: Service) -> None:
    """A typed prompt and the labels of the config give boxes; each request is one fault."""
    [entry] = running.predict(
        SCENE, context=[typed("red circle")], project=PROJECT, config=WITHOUT_NUMBER
    )
    assert labels(entry) == {"red circle"}
    for entry in running.predict(SCENE, SCENE, project=PROJECT):
        assert labels(entry) == {"red circle", "blue square"}
    found = faults(running)
    assert {fault["error_type"] for fault in found} == {"PromptMemoryError"}
    assert len({fault["request_id"] for fault in found}) == len(found) == 2
    assert all(fault["error"].startswith(SENTENCE) for fault in found)


def test_other_requests_are_answered_by_the_sentence(running: Service, blocker: Path) -> None:
    webhook = running.post("/webhook", submit("blue square"))
    for answer in (
        webhook,
        running.get("/prompts"),
        running.session.delete(f"{running.url}/prompts?project=31"),
    ):
        assert answer.status_code == 503
        assert answer.json()["error_type"] == "PromptMemoryError"
        assert answer.json()["error"].startswith(SENTENCE)
        assert str(blocker.parent) not in answer.text
    assert running.post("/setup", {"project": PROJECT, "schema": CONFIG}).status_code == 200


def test_the_doctor_says_it(running: Service) -> None:
    prelabel = Path(sys.executable).with_name("prelabel")
    done = subprocess.run(
        [prelabel, "doctor", "--url", running.url],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert f"fault prompts {SENTENCE}" in " ".join(done.stdout.split())


def test_a_file_that_can_be_used_again_is_used_without_a_restart(
    running: Service, blocker: Path
) -> None:
    blocker.unlink()
    deadline = time.monotonic() + PATIENCE_S
    while running.get("/prompts").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    before = len(faults(running))
    running.predict(SCENE, project=PROJECT)
    assert running.post("/webhook", submit("blue square")).status_code == 201
    [entry] = running.predict(SCENE, project=PROJECT)
    assert labels(entry) == {"blue square"}
    assert len(faults(running)) == before
