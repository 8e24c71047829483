"""Detectors and nodes that come and go with the load."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.load import CONFIG, CORRECT, Client, Load
from tests.support.pixel_app import Block
from tests.support.ray_cluster import Cluster, cluster, production_config, wait_for

logger = logging.getLogger(__name__)

AUTOSCALER = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}


def test_detectors_follow_the_load_to_added_nodes_and_back() -> None:
    with cluster() as ray:
        ray.start_head()
        ray.add_node()
        ray.wait()
        ray.deploy(production_config(detector={"min_replicas": 1}))
        assert len(ray.replicas("Detector")) == 1
        with Load(ray.url, clients=18) as load:
            ray.add_node()
            ray.add_node()
            wait_for("three detectors", lambda: len(ray.replicas("Detector")) == 3)
            assert len({id(node) for node in ray.replicas("Detector").values()}) == 3
            before = load.count(CORRECT)
            wait_for("they answer", lambda: load.count(CORRECT) > before + 50)
        wait_for("one detector is left", lambda: len(ray.replicas("Detector")) == 1)
        assert not load.failures()


def autoscaling(ray: Cluster) -> Path:
    """The file for a head that starts nodes by itself: Ray's fakes, on this machine."""
    nothing: list[str] = []
    commands = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray")
    config: dict[str, Any] = {
        "cluster_name": "fake",
        "max_workers": 2,
        "idle_timeout_minutes": 0.1,
        "upscaling_speed": 1.0,
        "provider": {
            "type": "fake_multinode",
            "gcs_address": ray.address,
            "use_node_id_as_ip": True,  # they share one
            "disable_node_updaters": True,  # there is no SSH to them
            "disable_launch_config_check": True,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 4}, "node_config": {}, "max_workers": 0},
            "gpu": {
                "resources": {"CPU": 1, "GPU": 1, "object_store_memory": 100 * 1024 * 1024},
                "labels": {"prelabel/role": "detector"},
                "node_config": {},
                "min_workers": 0,
                "max_workers": 2,
            },
        },
        "head_node_type": "ray.head.default",
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "cluster_synced_files": nothing,
        "file_mounts_sync_continuously": False,
        "rsync_exclude": nothing,
        "rsync_filter": nothing,
        **{f"{name}_commands": nothing for name in (*commands, "worker_start_ray")},
    }
    path = ray.folder / "autoscaling.json"
    path.write_text(json.dumps(config))
    return path


def fake_nodes(ray: Cluster) -> int:
    """Return the number of nodes that the head has started."""
    [head] = ray.nodes
    return sum("raylet/raylet" in title for title in head.processes().values()) - 1


@contextmanager
def asked_all_the_time(url: str) -> Iterator[list[float]]:
    """Ask for /health and /setup all the time, as Label Studio does; yield the seconds of each."""
    took: list[float] = []
    over = threading.Event()

    def ask() -> None:
        client = Client(url)
        while not over.is_set():
            for method, path, body in (
                ("GET", "/health", None),
                ("POST", "/setup", {"project": "1.1", "schema": CONFIG}),
            ):
                began = time.monotonic()
                status, content = client.ask(method, path, body)
                took.append(time.monotonic() - began)
                assert status == 200, content
            time.sleep(0.2)
        client.close()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield took
    finally:
        over.set()
        thread.join()


def test_the_first_picture_starts_a_node_and_health_does_not_wait_for_it() -> None:
    with cluster(AUTOSCALER) as ray:
        ray.start_head(f"--autoscaling-config={autoscaling(ray)}")
        ray.wait()
        ray.deploy(production_config())
        assert not ray.replicas("Detector")
        assert fake_nodes(ray) == 0
        with asked_all_the_time(ray.url) as took:
            time.sleep(3)
            assert len(took) > 10
            assert fake_nodes(ray) == 0, "nobody asked for a picture"
            block = Block("green", 10, 20, 30, 40)
            before = len(took)
            with Client(ray.url) as client:
                answer = client.predict([block])
            assert len(took) > before + 10, "/health and /setup wait for the node"
            assert answer.verdict == CORRECT, answer.reason
            assert fake_nodes(ray) == 1
            assert len(ray.replicas("Detector")) == 1
            wait_for("the detector goes", lambda: not ray.replicas("Detector"))
            wait_for("its node goes", lambda: fake_nodes(ray) == 0)
        waited = answer.ended - answer.began
        logger.info("first picture %.1f s, others %.2f s", waited, max(took))
