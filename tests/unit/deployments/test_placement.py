"""Devices, processors and the environment that detectors get."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deployments.placement import (
    CPU_ENVIRONMENT,
    DetectorPlace,
    decode_processes_for,
    place_detector,
    threads_for,
)
from tests.support.ray_nodes import node


@pytest.mark.parametrize(
    ("device", "nodes", "placed"),
    [
        ("auto", [node(2)], ("cpu", {"num_cpus": 1})),
        ("auto", [node(1)], ("cpu", {"num_cpus": 0.5})),
        ("auto", [node(2), node(16)], ("cpu", {"num_cpus": 15})),
        ("auto", [node(8), node(8, gpus=1)], ("cuda", {"num_cpus": 7, "num_gpus": 1})),
        ("auto", [node(16, gpus=4), node(8, gpus=1)], ("cuda", {"num_cpus": 3, "num_gpus": 1})),
        ("cuda", [node(2, gpus=8)], ("cuda", {"num_cpus": 1, "num_gpus": 1})),
        ("auto", [node(8), node(8, gpus=1, alive=False)], ("cpu", {"num_cpus": 7})),
        ("cpu", [node(8, gpus=1)], ("cpu", {"num_cpus": 7})),
        ("cuda", [node(2)], ("cuda", {"num_cpus": 1, "num_gpus": 1})),
    ],
)
def test_detectors_are_placed(
    device: Any, nodes: list[dict[str, Any]], placed: tuple[Any, dict[str, Any]]
) -> None:
    place = place_detector(device, nodes)
    environment = place.options.pop("runtime_env", None)
    assert place == DetectorPlace(*placed)
    assert environment == ({"env_vars": CPU_ENVIRONMENT} if place.device == "cpu" else None)


@pytest.mark.slow
def test_glibc_and_openmp_take_the_variables_of_a_detector_on_a_cpu() -> None:
    # Without them each pass of the model maps its memory anew, and idle threads keep the cores.
    [loader] = [
        line.split()[-1]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if re.search(r"/ld-linux[^/]*$|/ld-[\d.]+\.so$", line) and " r-xp " in line
    ]
    tunables = subprocess.run(
        [loader, "--list-tunables"], env=CPU_ENVIRONMENT, capture_output=True, text=True, check=True
    ).stdout
    assert re.search(r"^glibc\.malloc\.arena_max: 0x1 ", tunables, re.MULTILINE)
    assert re.search(r"^glibc\.malloc\.hugetlb: 0x1 ", tunables, re.MULTILINE)
    openmp = subprocess.run(
        [sys.executable, "-c", "import torch"],
        env=CPU_ENVIRONMENT | {"OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    assert re.search(r"GOMP_SPINCOUNT = '4000'", openmp)


@pytest.mark.parametrize(
    ("reserved", "node_cpus", "threads"),
    [
        (1, 2, 2),
        (0.5, 1, 1),
        (15, 16, 16),
        (4, 8, 8),
        (2, 8, 2),
        (3.5, 16, 3),
        (0.1, 2, 1),
        (0, 0, 1),
    ],
)
def test_a_detector_computes_with_a_whole_node_only_where_it_has_it(
    reserved: float, node_cpus: int, threads: int
) -> None:
    assert threads_for(reserved, node_cpus) == threads


@pytest.mark.parametrize(
    ("cpus", "gpus", "processes"),
    [(16, 1, 15), (16, 4, 3), (4, 1, 3), (2, 1, 1), (1, 1, 1), (0, 8, 1)],
)
def test_all_cores_of_a_gpus_share_but_one_decode(cpus: int, gpus: int, processes: int) -> None:
    assert decode_processes_for({"CPU": cpus, "GPU": gpus}) == processes
