"""Which device the detectors get, and how much of a machine each one takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

Device = Literal["cpu", "cuda"]


def place_detector(
    device: str, nodes: Sequence[Mapping[str, Any]]
) -> tuple[Device, dict[str, float]]:
    """The device, and a replica's `ray_actor_options`.

    device: the setting; `auto` takes GPUs if a node of `ray.nodes()` has one now. On a CPU a
    replica takes all of a node's cores but one, which the other deployments share: it uses all
    the cores there are, and a second one beside it would only slow both down.
    """
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    has_gpu = any(found.get("GPU", 0) > 0 for found in resources)
    if device == "cuda" or (device == "auto" and has_gpu):
        return "cuda", {"num_cpus": 1, "num_gpus": 1}
    cores = max((found.get("CPU", 0) for found in resources), default=0)
    return "cpu", {"num_cpus": max(cores - 1, 0.5)}
