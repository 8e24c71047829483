"""Faults under load: one request in two hundred at most is retried, and no answer is wrong."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.support.load import CORRECT, RETRY, WRONG, Load
from tests.support.ray_cluster import DETECTORS, Cluster, wait_for

logger = logging.getLogger(__name__)

REQUESTS = 1000  # of which five may have to come again
RECOVERY_S = 30
INGRESSES = 2


def kill_detector(ray: Cluster) -> None:
    kill(min(ray.replicas("Detector")))


def kill_ingress(ray: Cluster) -> None:
    kill(min(ray.replicas("Ingress")))


def kill_controller(ray: Cluster) -> None:
    [controller] = ray.titled("ray::ServeController")
    kill(controller)


def withdraw_node(ray: Cluster) -> None:
    ray.remove(ray.replicas("Detector")[min(ray.replicas("Detector"))])


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)


def is_whole(ray: Cluster) -> bool:
    """Return True if all replicas run."""
    return (
        len(ray.replicas("Detector")) == DETECTORS
        and len(ray.replicas("Ingress")) == INGRESSES
        and len(ray.titled("ray::ServeController")) == 1
    )


@pytest.mark.parametrize(
    "fault", [kill_detector, kill_ingress, kill_controller, withdraw_node], ids=lambda f: f.__name__
)
def test_a_fault_costs_a_retry_for_one_request_in_two_hundred_at_most(
    steady: Cluster, fault: Callable[[Cluster], None]
) -> None:
    wait_for("all runs", lambda: is_whole(steady))
    with Load(steady.url) as load:
        wait_for("answers", lambda: load.count(CORRECT) >= REQUESTS // 4)
        fault(steady)
        at = time.monotonic()
        wait_for(f"all runs again after {fault.__name__}", lambda: is_whole(steady))
        whole_s = time.monotonic() - at
        wait_for("answers", lambda: len(load.answers) >= REQUESTS, 300)
    assert len(set(map(id, steady.replicas("Ingress").values()))) == 1, "not on the head alone"
    share = load.count(RETRY) / len(load.answers)
    recovery_s = load.recovery_s(at)
    logger.info(
        "%s: %d requests, %d to be retried, %d wrong; answered again in %.1f s, whole in %.1f s",
        *(fault.__name__, len(load.answers), load.count(RETRY), load.count(WRONG)),
        *(recovery_s, whole_s),
    )
    assert load.count(WRONG) == 0, load.failures()
    assert share <= 0.005, load.failures()
    assert recovery_s < RECOVERY_S, load.failures()
