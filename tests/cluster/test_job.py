"""`prelabel annotate --ray` over 5,000 pictures on two nodes."""

from __future__ import annotations

from pathlib import Path

from tests.support.job_trial import NODES, interrupted_job
from tests.support.ray_cluster import cluster

PICTURES = 5_000


def test_a_killed_node_and_a_killed_job_cost_little(tmp_path: Path) -> None:
    with cluster() as nodes:
        figures = interrupted_job(nodes, tmp_path, PICTURES)
    assert figures.stored > PICTURES / 3
    # Of the second job, each engine's smoke test is one pass.
    assert figures.passes_after <= PICTURES - figures.stored + 2 * NODES
