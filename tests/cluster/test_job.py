"""`prelabel annotate --ray` over 5,000 pictures on two nodes."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from prelabel.cli.annotate_input import annotate_input
from prelabel.settings import Environment
from tests.serve.test_job import assert_same_boxes
from tests.support.counted_job import CONFIG, options_for
from tests.support.job_trial import NODES, interrupted_job
from tests.support.offline import rows_in
from tests.support.ray_cluster import cluster

PICTURES, SOME_PICTURES = 5_000, 150


def test_a_killed_node_and_a_killed_job_cost_little(tmp_path: Path) -> None:
    with cluster() as nodes:
        figures = interrupted_job(nodes, tmp_path, PICTURES)
    assert figures.stored > PICTURES / 3
    # Of the second job, each engine's smoke test is one pass.
    assert figures.passes_after <= PICTURES - figures.stored + 2 * NODES


def test_the_boxes_are_those_of_one_process(tmp_path: Path) -> None:
    with cluster() as nodes:
        figures = interrupted_job(nodes, tmp_path, SOME_PICTURES)
    # Of the second job, each engine's smoke test is one pass.
    assert figures.passes_after <= SOME_PICTURES - figures.stored + 2 * NODES, figures
    assert figures.stored > 0, figures
    # In one process, the boxes are the same.
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    options = options_for(tmp_path / "pictures", tmp_path / "local", config)
    assert annotate_input(options, Environment(), Console()) == 0
    of_job = {row["meta"]["prelabel"]["input"]: row for row in rows_in(tmp_path / "out")}
    for row in rows_in(tmp_path / "local"):
        other = of_job.pop(row["meta"]["prelabel"]["input"])
        assert other["data"] == row["data"]
        assert_same_boxes(other["predictions"][0]["result"], row["predictions"][0]["result"])
    assert not of_job
