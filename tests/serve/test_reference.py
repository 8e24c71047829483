"""The service beside label-studio-ml 1.0.9, the server that Label Studio's users know.

Both get the same requests; status and keys must agree wherever the reference works. Its place is
`.venv-reference`, since it pins packages of 2021.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.paths import ROOT
from tests.support.processes import free_port, running
from tests.support.scenes import SCENE
from tests.support.service_client import CONFIG, Service

BINARIES = ROOT / ".venv-reference/bin"
MODEL = """from label_studio_ml.model import LabelStudioMLBase


class Empty(LabelStudioMLBase):
    def predict(self, tasks, **kwargs):
        return [{"result": [], "score": 0} for _ in tasks]

    def fit(self, tasks, workdir=None, **kwargs):
        return {}
"""
# Where its files are on its disk, and which of its two modes it is in.
ITS_OWN = {"model_dir", "v2"}

PROJECT = "3.1795349150"
TASK = {"id": 1, "data": {"image": SCENE}}
PARAMS = {"login": None, "password": None, "context": None}
PREDICT = {"tasks": [TASK], "project": PROJECT, "label_config": CONFIG, "params": PARAMS}
EVENT_PROJECT = {"id": 3, "label_config": CONFIG}
PATHS = ["/", "/health", "/setup", "/predict", "/webhook", "/versions"]
PATHS += ["/train", "/is_training", "/metrics", "/unknown"]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
# Label Studio asks for it, though the reference does not know it.
ADDED = {("GET", "/versions"), ("HEAD", "/versions")}


@dataclass(frozen=True)
class Call:
    """A request that both servers know."""

    method: str
    path: str
    body: dict[str, Any] | None = None

    def send(self, url: str) -> httpx.Response:
        return httpx.request(
            self.method, url + self.path, json=self.body, timeout=60, trust_env=False
        )


CALLS = {
    "root": Call("GET", "/"),
    "health": Call("GET", "/health"),
    "health, head only": Call("HEAD", "/health"),
    "setup": Call("POST", "/setup", {"project": PROJECT, "schema": CONFIG, "hostname": ""}),
    "setup with nothing": Call("POST", "/setup", {}),
    "predict": Call("POST", "/predict", PREDICT),
    "predict two": Call("POST", "/predict", PREDICT | {"tasks": [TASK, TASK]}),
    "predict no task": Call("POST", "/predict", PREDICT | {"tasks": []}),
    "predict without params": Call(
        "POST", "/predict", {key: PREDICT[key] for key in PREDICT if key != "params"}
    ),
    "webhook": Call(
        "POST",
        "/webhook",
        {
            "action": "ANNOTATION_CREATED",
            "project": EVENT_PROJECT,
            "task": TASK,
            "annotation": {"id": 1, "result": []},
        },
    ),
    "webhook, unknown action": Call("POST", "/webhook", {"action": "NEW", "project": {"id": 3}}),
    "versions": Call("POST", "/versions", {"project": PROJECT}),
    "versions of no project": Call("POST", "/versions", {}),
    "train": Call("POST", "/train", {"annotations": [TASK], "project": PROJECT}),
    "train on nothing": Call("POST", "/train", {"annotations": [], "project": PROJECT}),
    "is_training": Call("GET", f"/is_training?project={PROJECT}"),
    "is_training of no project": Call("GET", "/is_training"),
    "metrics": Call("GET", "/metrics"),
    "unknown": Call("GET", "/unknown"),
}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the running reference server."""
    assert BINARIES.exists(), "The reference is not installed: run `make .venv-reference/stamp`."
    folder = tmp_path_factory.mktemp("reference")
    (folder / "model.py").write_text(MODEL)
    environment = {
        "PATH": f"{BINARIES}{os.pathsep}{os.defpath}",  # it starts whatever `python` is first
        "HOME": str(folder),
        "LABEL_STUDIO_ML_BACKEND_V2": "1",  # the mode in which all of its routes work
    }
    program = BINARIES / "label-studio-ml"
    init: list[str | Path] = [program, "init", "backend", "--script", "model.py:Empty"]
    subprocess.run(init, cwd=folder, env=environment, check=True, capture_output=True)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    start: list[str | Path] = [program, "start", folder / "backend"]
    start += ["--host", "127.0.0.1", "--port", str(port)]
    with running(start, environment, folder / "log", f"{url}/health"):
        CALLS["setup"].send(url)  # until then, half of its routes answer 500
        yield url


@pytest.mark.parametrize("name", CALLS)
def test_status_and_keys_are_those_of_the_reference(
    service: Service, reference: str, name: str
) -> None:
    theirs, ours = CALLS[name].send(reference), CALLS[name].send(service.url)
    assert ours.status_code == theirs.status_code, (ours.text, theirs.text)
    if theirs.is_success and theirs.content:
        assert isinstance(ours.json(), type(theirs.json()))
        assert set(ours.json()) >= set(theirs.json()) - ITS_OWN


@pytest.mark.parametrize("name", ["predict", "predict two", "predict no task"])
def test_there_are_as_many_results_as_the_reference_gives(
    service: Service, reference: str, name: str
) -> None:
    theirs, ours = (CALLS[name].send(url).json() for url in (reference, service.url))
    assert len(ours["results"]) == len(theirs["results"])
    for our_entry, their_entry in zip(ours["results"], theirs["results"], strict=True):
        assert set(our_entry) >= set(their_entry)


@pytest.mark.parametrize(("method", "path"), sorted(set(product(METHODS, PATHS)) - ADDED))
def test_methods_are_those_of_the_reference(
    service: Service, reference: str, method: str, path: str
) -> None:
    theirs, ours = (Call(method, path).send(url) for url in (reference, service.url))
    refusals = {404, 405}
    assert (ours.status_code in refusals) == (theirs.status_code in refusals)
    if theirs.status_code in refusals:
        assert ours.status_code == theirs.status_code


@pytest.mark.parametrize("path", ["/predict", "/setup", "/webhook", "/train", "/versions"])
def test_what_crashes_the_reference_is_refused_with_a_sentence(
    service: Service, reference: str, path: str
) -> None:
    def send_text(url: str) -> httpx.Response:
        return httpx.post(url + path, content="no JSON", timeout=30, trust_env=False)

    assert send_text(reference).status_code == 500
    refused = send_text(service.url)
    assert refused.status_code == 422
    assert refused.json()["error"].endswith(".")
