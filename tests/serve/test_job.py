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

from tests.support.demo_cases import DEMO, Demo, boxes_of, complaints, load_cases
from tests.support.offline import rows_in
from tests.support.paths import ROOT
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


def assert_same_boxes(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    mine, others = sorted(boxes_of(ours)), sorted(boxes_of(theirs))
    assert [box[0] for box in mine] == [box[0] for box in others]
    np.testing.assert_allclose(
        [box[1:] for box in mine], [box[1:] for box in others], atol=0.05, rtol=0
    )
