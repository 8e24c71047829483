"""`prelabel annotate --input s3://...`: pictures of a bucket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.bucket import Bucket, bucket_running
from tests.support.demo_cases import DEMO, Demo, complaints, load_cases
from tests.support.offline import keys_in, rows_in
from tests.support.paths import ROOT

PICTURES = sorted([*DEMO.glob("*.jpg"), *DEMO.glob("*.png")])


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Bucket]:
    with bucket_running(tmp_path / "moto.log") as found:
        for picture in PICTURES:
            found.put(picture)
        yield found


def annotate(bucket: Bucket, folder: Path, *options: str | Path) -> str:
    (folder / "config.xml").write_text(Demo(load_cases()).config)
    command: list[str | Path] = [Path(sys.executable).with_name("prelabel"), "annotate"]
    command += ["--input", f"s3://{bucket.name}", "--label-config", folder / "config.xml"]
    environment = {
        "PATH": os.defpath,
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "AWS_ENDPOINT_URL": bucket.endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    done = subprocess.run(
        [*command, *options],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_pictures_of_a_bucket_become_tasks_with_its_addresses(
    bucket: Bucket, tmp_path: Path
) -> None:
    annotate(bucket, tmp_path, "--output", tmp_path / "out")
    rows = rows_in(tmp_path / "out")
    assert [row["data"]["image"] for row in rows] == [
        f"s3://{bucket.name}/{path.name}" for path in PICTURES
    ]
    assert keys_in(tmp_path / "out").keys() == {path.name for path in PICTURES}
    assert sum(len(row["predictions"][0]["result"]) for row in rows) > 30


def test_a_job_writes_its_results_to_a_bucket_and_repeats_nothing(
    bucket: Bucket, tmp_path: Path
) -> None:
    httpx.put(f"{bucket.endpoint}/results", trust_env=False).raise_for_status()
    options = ("--output", "s3://results/run", "--ray", "--block", "5", "--format", "parquet")
    said = annotate(bucket, tmp_path, *options)
    assert f"{len(PICTURES)} tasks with predictions, 0 failed." in said
    shard = f"{bucket.endpoint}/results/run/tasks/tasks-000000.jsonl"
    first = httpx.get(shard, trust_env=False).content
    rows = [json.loads(line) for line in first.splitlines()]
    assert sorted(row["data"]["image"] for row in rows) == [
        f"s3://{bucket.name}/{path.name}" for path in PICTURES
    ]
    config = Demo(load_cases()).config
    assert not [row for row in rows if complaints(config, row["predictions"][0])]
    annotate(bucket, tmp_path, *options)
    assert httpx.get(shard, trust_env=False).content == first  # with the ids of its regions
