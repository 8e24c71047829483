import threading
import time
from pathlib import Path
from typing import Any

import pytest
import ray
import requests

from prelabel.errors import ModelError
from prelabel.settings import AppSettings
from serve_app import build_app
from tests.support.scenes import fresh
from tests.support.service_client import CONFIG, Service


def test_a_model_that_is_not_there_fails_at_start_with_the_command_that_fetches_it(
    tmp_path: Path,
) -> None:
    settings = AppSettings(model={"name": "llmdet-tiny", "folder": str(tmp_path)})
    with pytest.raises(ModelError, match="Run `prelabel download llmdet-tiny`"):
        build_app(settings)


def detectors() -> list[dict[str, str]]:
    names = ray.util.list_named_actors(all_namespaces=True)
    return [each for each in names if "prelabel#Detector" in each["name"]]


def test_requests_outlive_their_detector(service: Service) -> None:
    """A killed replica costs time, not tasks."""
    answers: list[dict[str, Any]] = []
    request = threading.Thread(target=lambda: answers.extend(service.predict(*fresh(60))))
    request.start()
    time.sleep(0.5)
    [replica] = detectors()
    ray.kill(ray.get_actor(replica["name"], namespace=replica["namespace"]))
    request.join(timeout=90)
    assert [len(entry["result"]) for entry in answers] == [2] * 60
    assert detectors() != [replica]


def test_a_client_that_hangs_up_frees_the_service(service: Service) -> None:
    """Without cancellation the 300 tasks would run for many seconds."""
    body = {
        "tasks": [{"data": {"image": picture}} for picture in fresh(300)],
        "label_config": CONFIG,
    }
    with pytest.raises(requests.Timeout):
        service.session.post(f"{service.url}/predict", json=body, timeout=1.5)
    deadline = time.monotonic() + 5
    while (left := service.get("/metrics").json()["tasks_in_progress"]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.2)
    assert left == 0
