"""Rollouts of other settings and of another version of the code, under load."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import pytest

from tests.support.load import CORRECT, Client, Load
from tests.support.pixel_app import Block
from tests.support.ray_cluster import Cluster, steady_config, wait_for

logger = logging.getLogger(__name__)

OLD, NEW = 0.75, 0.875  # the versions' scores


def version(ray: Cluster) -> str:
    with Client(ray.url) as client:
        status, content = client.ask("GET", "/health")
    assert status == 200
    found: str = json.loads(content)["model_version"]
    return found


def scores(ray: Cluster) -> set[float]:
    with Client(ray.url) as client:
        answer = client.predict([Block("red", 5, 5, 50, 50)])
    assert answer.verdict == CORRECT, answer.reason
    return set(answer.scores)


def settings() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a config and another one that differs in a setting."""
    return steady_config(), steady_config(args={"detection": {"nms_iou_threshold": 0.6}})


def code() -> tuple[dict[str, Any], dict[str, Any]]:
    """A config, and the same for files that changed meanwhile, as `make cluster-deploy` says it."""
    app = {"import_path": "rolled_out:build_app"}
    return steady_config(**app), steady_config(**app, args={"release": "next"})


def write_code(ray: Cluster, builder: str) -> None:
    """The application's file on all nodes."""
    line = f"from tests.support.pixel_app import {builder} as build_app\n"
    (ray.folder / "rolled_out.py").write_text(line)


@pytest.mark.parametrize(("change", "score"), [(settings, OLD), (code, NEW)])
def test_a_rollout_fails_no_request(steady: Cluster, change: Any, score: float) -> None:
    config, changed = change()
    write_code(steady, "build_app")
    steady.deploy(config)
    wait_for("the old version", lambda: scores(steady) == {OLD})
    before = version(steady)
    with Load(steady.url) as load:
        wait_for("answers", lambda: load.count(CORRECT) >= 50)
        began = time.monotonic()
        write_code(steady, "build_next_app")
        steady.deploy(changed)
        took = time.monotonic() - began
        deployed = time.monotonic()
        seen = load.count(CORRECT)
        wait_for("answers", lambda: load.count(CORRECT) >= seen + 50)
    logger.info("%d requests during a rollout of %.1f s", len(load.answers), took)
    assert not load.failures()
    assert {s for a in load.answers for s in a.scores if a.began > deployed} == {score}
    assert (version(steady) != before) is (change is settings)
