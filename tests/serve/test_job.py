"""Pictures that are in no project: the same boxes as through the service, also from a cluster."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from prelabel.cli.annotate_input import annotate_input
from prelabel.settings import Environment
from tests.support.counted_job import CONFIG, options_for
from tests.support.demo_cases import DEMO, Demo, boxes_of, complaints, load_cases
from tests.support.job_trial import NODES, interrupted_job
from tests.support.offline import rows_in
from tests.support.paths import ROOT
from tests.support.ray_cluster import cluster
from tests.support.scenes import data_uri
from tests.support.service_client import Service

PICTURES = 150
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def test_boxes_and_version_are_those_of_the_service(service: Service, tmp_path: Path) -> None:
    """The command reads the shipped settings, as the service does."""
    command: list[str | Path] = [Path(sys.executable).with_name("prelabel"), "annotate"]
    config = Demo(load_cases()).config
    (tmp_path / "config.xml").write_text(config)
    command += ["--input", DEMO, "--label-config", tmp_path / "config.xml"]
    command += ["--output", tmp_path / "out", "--format", "coco,yolo,parquet"]
    environment = {"PATH": os.defpath, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr + done.stdout
    rows = rows_in(tmp_path / "out")
    version = service.get("/health").json()["model_version"]
    found = 0
    for row in rows:
        [prediction] = row["predictions"]
        assert complaints(config, prediction) == []
        assert prediction["model_version"] == version
        content = (DEMO / row["meta"]["prelabel"]["input"]).read_bytes()
        [entry] = service.predict(data_uri(content), config=config)
        assert_same_boxes(prediction["result"], entry["result"])
        assert abs(prediction["score"] - entry["score"]) < 1e-3
        found += len(entry["result"])
    assert found > 30
    coco = json.loads((tmp_path / "out/coco/instances.json").read_text())
    assert len(coco["annotations"]) == found


def test_a_job_continues_after_its_node_and_itself_were_killed(tmp_path: Path) -> None:
    with cluster(TOKEN) as nodes:
        figures = interrupted_job(nodes, tmp_path, PICTURES)
    # Of the second job, each engine's smoke test is one pass.
    assert figures.passes_after <= PICTURES - figures.stored + 2 * NODES, figures
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


def assert_same_boxes(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    mine, others = sorted(boxes_of(ours)), sorted(boxes_of(theirs))
    assert [box[0] for box in mine] == [box[0] for box in others]
    np.testing.assert_allclose(
        [box[1:] for box in mine], [box[1:] for box in others], atol=0.05, rtol=0
    )
