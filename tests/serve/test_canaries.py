"""The service's secrets are in no answer, no log of a replica and no request to a foreign host."""

import base64
from collections.abc import Iterator
from pathlib import Path

import ray
import requests

from tests.support.scenes import SCENE
from tests.support.service_client import CONFIG, PASSWORD, USER, Service
from tests.support.web import CANARY, Web

BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
SECRETS = (CANARY, PASSWORD, BASIC)


def drive(service: Service, web: Web, foreign: Web) -> Iterator[requests.Response]:
    """Send requests that fail in many ways, and some that succeed; yield the answers."""
    pictures = [
        SCENE,
        "/data/upload/1/a.jpg",
        "/data/away/1/a.jpg",
        f"{web.url}/data/away/2/a.jpg",
        "/data/away/missing",
        "/data/upload/missing",
        "/data/../api/current-user/token",
        f"{web.url}/tasks/../api/token",
        "s3://bucket/key",
        f"{foreign.url}/a.jpg",
        f"{foreign.url}/missing",
        f"{web.url.replace('//', f'//{CANARY}@')}/a.jpg",
        "http://127.0.0.1:9/a.jpg",
        "data:image/png;base64,AAAA",
        "file:///proc/self/environ",
    ]
    tasks = [{"id": n, "data": {"image": picture}} for n, picture in enumerate(pictures)]
    yield service.post("/predict", {"tasks": tasks, "label_config": CONFIG, "project": "88.1"})
    yield service.post("/predict", {"tasks": [5], "label_config": "<View>"})
    yield service.post("/predict", {"tasks": 5})
    yield service.post("/setup", {"schema": "<View>"})
    yield service.post("/webhook", {"action": 5})
    for path in ("/", "/versions", "/metrics", "/prompts", "/docs", "/openapi.json", "/nowhere"):
        yield service.get(path)


def logs_of_replicas() -> Iterator[Path]:
    """And of Serve's proxy. (Ray's own logs hold the environment that these tests deploy with.)"""
    node = ray._private.worker._global_node
    assert node is not None
    folder = Path(node.get_logs_dir_path()) / "serve"
    found = [*folder.glob("replica_*"), *folder.glob("proxy_*")]
    assert found, f"no logs in {folder}"
    yield from found


def test_secrets_stand_in_no_answer_no_log_and_no_foreign_request(
    service: Service, guarded: Service, web: Web, foreign: Web
) -> None:
    asked = len(foreign.seen)
    answers: list[requests.Response] = []
    for each in (service, guarded):
        answers += drive(each, web, foreign)
        answers.append(requests.get(f"{each.url}/health", auth=(USER, f"{PASSWORD}x"), timeout=10))
    assert {answer.status_code for answer in answers} >= {200, 401, 404, 422}
    for answer in answers:
        assert not any(secret in answer.text for secret in SECRETS), answer.url
        assert not any(secret in str(answer.headers) for secret in SECRETS), answer.url
        assert "Traceback" not in answer.text

    away = [authorization for path, authorization in web.seen if path.startswith("/data/away/")]
    assert set(away) == {f"Token {CANARY}"}, "Label Studio itself gets the token"
    contacts = foreign.seen[asked:]
    assert {path for path, _ in contacts} >= {"/away/1/a.jpg", "/away/2/a.jpg", "/a.jpg"}
    assert {authorization for _, authorization in contacts} == {None}
    assert not any(secret in heard for heard in foreign.heard for secret in SECRETS)

    for log in logs_of_replicas():
        text = log.read_text(errors="replace")
        assert not any(secret in text for secret in SECRETS), log.name
