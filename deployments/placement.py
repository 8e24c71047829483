"""Which device the detectors get, and how much of a machine each one takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import ray

# What glibc and OpenMP read when a process starts. glibc would give each thread a pool of its own
# and unmap what gets free in all but the main thread's, which does not compute: each pass would map
# hundreds of megabytes anew. And where kept pictures make memory grow, it grows in huge pages: by
# single pages, a pass took 135 page faults per thread, a twentieth of its time.
# OpenMP's helpers would look for work for 14 ms behind each parallel part of a pass, on cores that
# the answer and other programs need. With 4000 rounds it is 0.2 ms: beside a busy program a lone
# request takes half of what it takes with 40000, and on an idle machine the same.
CPU_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "GOMP_SPINCOUNT": "4000",
}


@dataclass(frozen=True, slots=True)
class DetectorPlace:
    """device; options: a replica's `ray_actor_options`."""

    device: Literal["cpu", "cuda"]
    options: dict[str, Any]


def place_detector(device: str, nodes: Sequence[Mapping[str, Any]]) -> DetectorPlace:
    """What the `device` setting means on these nodes, as `ray.nodes()` gives them.

    `auto` takes GPUs if a node has one now. On a CPU a replica reserves all of a node's cores but
    one, which the other deployments share: a second detector beside it would only slow both down.
    """
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    has_gpu = any(found.get("GPU", 0) > 0 for found in resources)
    if device == "cuda" or (device == "auto" and has_gpu):
        return DetectorPlace("cuda", {"num_cpus": 1, "num_gpus": 1})
    cores = max((found.get("CPU", 0) for found in resources), default=0)
    options = {"num_cpus": max(cores - 1, 0.5), "runtime_env": {"env_vars": CPU_ENVIRONMENT}}
    return DetectorPlace("cpu", options)


def threads_for(reserved_cpus: float, node_cpus: float) -> int:
    """How many threads a detector computes with on a CPU: all of the node's, where it has reserved
    at least half of it and is alone but for those who only wait; else what it has reserved.
    """
    return max(1, int(node_cpus if 2 * reserved_cpus >= node_cpus else reserved_cpus))


def threads_here() -> int:
    """`threads_for` the replica that asks; its node may be younger than the application."""
    context = ray.get_runtime_context()
    reserved = context.get_assigned_resources().get("CPU", 0.0)  # type: ignore[no-untyped-call]
    [node] = [
        node
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["NodeID"] == context.get_node_id()
    ]
    return threads_for(reserved, node["Resources"].get("CPU", 0.0))
