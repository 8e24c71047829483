"""Nodes as `ray.nodes()` lists them."""

from __future__ import annotations

from typing import Any


def node(cpus: int, gpus: int = 0, alive: bool = True) -> dict[str, Any]:
    return {"Alive": alive, "Resources": {"CPU": cpus} | ({"GPU": gpus} if gpus else {})}
