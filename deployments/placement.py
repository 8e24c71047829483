"""Which device the detectors get, and how much of a machine each one takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

# glibc gives each thread a pool of its own and unmaps what gets free in all but the main thread's,
# which Serve does not let replicas compute in: each pass would map hundreds of megabytes anew.
_ONE_POOL_OF_MEMORY = {"env_vars": {"MALLOC_ARENA_MAX": "1"}}


@dataclass(frozen=True, slots=True)
class DetectorPlace:
    """device; options: a replica's `ray_actor_options`; cpu_threads: to compute with, on a CPU."""

    device: Literal["cpu", "cuda"]
    options: dict[str, Any]
    cpu_threads: int | None


def place_detector(device: str, nodes: Sequence[Mapping[str, Any]]) -> DetectorPlace:
    """What the `device` setting means on these nodes, as `ray.nodes()` gives them.

    `auto` takes GPUs if a node has one now. On a CPU a replica reserves all of a node's cores but
    one, which the other deployments share, and computes with all: a second detector beside it
    would only slow both down.
    """
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    has_gpu = any(found.get("GPU", 0) > 0 for found in resources)
    if device == "cuda" or (device == "auto" and has_gpu):
        return DetectorPlace("cuda", {"num_cpus": 1, "num_gpus": 1}, None)
    cores = max((found.get("CPU", 0) for found in resources), default=0)
    options = {"num_cpus": max(cores - 1, 0.5), "runtime_env": _ONE_POOL_OF_MEMORY}
    return DetectorPlace("cpu", options, max(int(cores), 1))
