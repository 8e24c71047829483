"""Places detectors: the device, the resources of a replica and its compute threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import ray

from prelabel.settings.openmp import SPIN

# Variables that glibc and OpenMP read when a process starts.
# One malloc arena: with an arena per thread, glibc unmaps freed memory in all but the main thread's
# arena, and each forward pass would map hundreds of megabytes again.
# Huge pages: with small pages, memory that grows with the picture cache took 135 page faults per
# thread and pass, 5 % of its time.
CPU_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    **SPIN,
}


@dataclass(frozen=True, slots=True)
class DetectorPlace:
    """The device and the resources of the detector replicas.

    Attributes:
        device: Where the model runs.
        options: The replicas' `ray_actor_options`.
    """

    device: Literal["cpu", "cuda"]
    options: dict[str, Any]


def place_detector(device: str, nodes: Sequence[Mapping[str, Any]]) -> DetectorPlace:
    """Return the device and the resources of a detector replica.

    On a CPU a replica reserves all cores of a node but one, which the other deployments share: a
    second detector on the node would slow both down. On a GPU it reserves the cores with which it
    decodes pictures, all of the GPU's share but one.

    Args:
        device: The setting `model.device`. `auto` takes GPUs if a node has one now.
        nodes: The cluster's nodes, as `ray.nodes()` returns them.
    """
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    has_gpu = any(found.get("GPU", 0) > 0 for found in resources)
    if device == "cuda" or (device == "auto" and has_gpu):
        processes = [decode_processes_for(found) for found in resources if found.get("GPU", 0) > 0]
        return DetectorPlace("cuda", {"num_cpus": min(processes, default=1), "num_gpus": 1})
    cores = max((found.get("CPU", 0) for found in resources), default=0)
    options = {"num_cpus": max(cores - 1, 0.5), "runtime_env": {"env_vars": CPU_ENVIRONMENT}}
    return DetectorPlace("cpu", options)


def threads_for(reserved_cpus: float, node_cpus: float) -> int:
    """Return the number of compute threads of a detector on a CPU.

    A detector that has reserved at least half of a node takes all its cores, because the other
    replicas there mostly wait; otherwise it takes the cores that it has reserved.
    """
    return max(1, int(node_cpus if 2 * reserved_cpus >= node_cpus else reserved_cpus))


def threads_here() -> int:
    """Return the number of compute threads of the replica that calls this function.

    Determined in the replica, because its node may have joined after the application was built.
    """
    context = ray.get_runtime_context()
    reserved = context.get_assigned_resources().get("CPU", 0.0)  # type: ignore[no-untyped-call]
    return threads_for(reserved, _resources_here().get("CPU", 0.0))


def decode_processes_for(resources: Mapping[str, float]) -> int:
    """Return the number of processes that decode pictures for one GPU of a node.

    One core of the GPU's share is left for the replica itself. Cores of the node that are not
    reserved are used as well.
    """
    return max(1, _cores_for_each_gpu(resources) - 1)


def decode_processes_here() -> int:
    """Return the number of processes that decode pictures for the replica that calls this."""
    return decode_processes_for(_resources_here())


def _cores_for_each_gpu(resources: Mapping[str, float]) -> int:
    return int(resources.get("CPU", 0) / max(1, resources.get("GPU", 1)))


def _resources_here() -> dict[str, float]:
    context = ray.get_runtime_context()
    [node] = [
        node
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["NodeID"] == context.get_node_id()
    ]
    resources: dict[str, float] = node["Resources"]
    return resources
