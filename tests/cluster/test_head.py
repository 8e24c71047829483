"""The head is lost, and starts anew: Redis knows the cluster, the application and the prompts."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from http.client import HTTPException
from typing import Any

import pytest

from tests.support.load import CONFIG, CORRECT, Client, predict_body
from tests.support.pixel_app import Block
from tests.support.processes import free_port
from tests.support.ray_cluster import cluster, production_config, wait_for

logger = logging.getLogger(__name__)

CREATED = "2026-01-01T00:00:00.000000Z"
RED, BLUE = Block("red", 10, 10, 30, 30), Block("blue", 40, 40, 20, 20)


@pytest.fixture
def redis() -> Iterator[str]:
    """The address of a real Redis server."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("needs Redis: apt-get install redis-server")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder]
        with subprocess.Popen([*command, "--save", ""], stdout=subprocess.DEVNULL) as process:
            try:
                yield f"127.0.0.1:{port}"
            finally:
                process.terminate()


def found(client: Client, block: Block) -> list[Any]:
    """Return the boxes for a request that names the project and no prompt."""
    project = f"1.{int(datetime.fromisoformat(CREATED).timestamp())}"
    status, content = client.ask("POST", "/predict", predict_body([block], project))
    assert status == 200, content
    [entry] = json.loads(content)["results"]
    assert "error" not in entry, entry
    return [region for region in entry["result"] if region["type"] == "rectanglelabels"]


def submit(client: Client, prompt: str) -> None:
    """Submit an annotation, whose prompt the service remembers for the project."""
    typed = {
        "from_name": "prompt",
        "to_name": "image",
        "type": "textarea",
        "value": {"text": [prompt]},
        "origin": "manual",
    }
    event = {
        "action": "ANNOTATION_CREATED",
        "project": {"id": 1, "created_at": CREATED, "label_config": CONFIG},
        "annotation": {"id": 1, "result": [typed], "updated_at": datetime.now(UTC).isoformat()},
        "task": {"id": 1, "data": {}},
    }
    status, content = client.ask("POST", "/webhook", event)
    assert status == 201, content


def answers(client: Client) -> bool:
    with suppress(OSError, HTTPException):
        return client.predict([BLUE]).verdict == CORRECT
    return False


def test_a_new_head_knows_the_application_and_its_prompts(redis: str) -> None:
    environment = {"RAY_REDIS_ADDRESS": redis, "PROMPTS_REDIS_URL": f"redis://{redis}/0"}
    with cluster(environment) as ray, ExitStack() as clients:
        head = ray.start_head()
        ray.add_node()
        ray.wait()
        ray.deploy(production_config(detector={"min_replicas": 1, "max_replicas": 1}))
        client = clients.enter_context(Client(ray.url))
        assert found(client, RED)
        submit(client, "blue")
        wait_for("the prompt holds", lambda: not found(client, RED), 30)
        assert found(client, BLUE)
        ray.remove(head)
        lost = time.monotonic()
        client.close()
        ray.start_head()
        wait_for("it answers again, and nobody deployed anything", lambda: answers(client))
        logger.info("answers again %.1f s after the head was lost", time.monotonic() - lost)
        assert not found(client, RED), "the prompt is forgotten"
        assert found(client, BLUE)
