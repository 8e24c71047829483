"""`prelabel annotate --input` as it is typed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.support.demo_cases import DEMO
from tests.support.fake_label_studio import running
from tests.support.fake_projects import ProjectLabelStudio
from tests.support.offline import keys_in, rows_in
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

PRELABEL = Path(sys.executable).with_name("prelabel")
LABELS = "red circle,blue square"
NONE: Mapping[str, str] = {}
# PyArrow is not found, as without the extra `jobs`.
BLOCKED = """
import sys
from importlib.machinery import PathFinder

class WithoutArrow(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] == "pyarrow":
            return None
        return super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutArrow
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two pictures, of which one is broken."""
    folder = tmp_path / "my photos"
    (folder / "a").mkdir(parents=True)
    shutil.copy(DEMO / "street.jpg", folder / "a/street 1.jpg")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def annotate(
    *options: str | Path, paths: Path | None = None, variables: Mapping[str, str] = NONE
) -> CompletedProcess[str]:
    environment = {
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join(map(str, filter(None, (paths, ROOT)))),
        **variables,
    }
    return subprocess.run(
        [PRELABEL, "annotate", *options],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def test_from_counting_to_trying_again(photos: Path, tmp_path: Path) -> None:
    run = ("--input", photos, "--output", tmp_path / "out", "--labels", LABELS)
    counted = annotate(*run, "--dry-run")
    assert counted.returncode == 0, counted.stderr
    assert counted.stdout.startswith("2 have no prediction of demo-")

    done = annotate(*run, "--format", "coco,yolo")
    assert done.returncode == 3, done.stderr
    assert "1 done, 1 failed.\n" in done.stdout
    assert "--failed lists those" in done.stdout
    [row] = rows_in(tmp_path / "out")
    assert row["data"] == {"image": "/data/local-files/?d=my%20photos/a/street%201.jpg"}
    assert (tmp_path / "out/yolo/labels/a/street 1.txt").exists()
    assert len(json.loads((tmp_path / "out/coco/instances.json").read_text())["images"]) == 1

    failed = annotate(*run, "--failed")
    assert failed.stdout.startswith("broken.png: ")
    shutil.copy(DEMO / "street.jpg", photos / "broken.png")
    again = annotate(*run, "--retry-failed", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == {"done": 1, "failed": 0, "stored": 2, "notes": []}
    other = annotate(*run[:-1], "cat")
    assert other.returncode == 1
    assert "the labeling config was another" in other.stderr


def test_without_the_extra_json_lines_coco_and_yolo_work(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked/sitecustomize.py").write_text(BLOCKED)
    run = ("--input", photos, "--output", tmp_path / "out", "--labels", LABELS)
    blocked = tmp_path / "blocked"
    done = annotate(*run, "--format", "coco,yolo", paths=blocked)
    assert done.returncode == 3, done.stderr
    assert len(rows_in(tmp_path / "out")) == 1
    for option in (("--format", "parquet"), ("--ray",), ("--input", "s3://bucket/pictures")):
        refused = annotate(*run, *option, paths=blocked)
        assert refused.returncode == 1
        assert "pip install 'prelabel[jobs]'" in refused.stderr


def test_the_config_can_be_that_of_a_project_or_a_file(photos: Path, tmp_path: Path) -> None:
    config = (
        '<View><Image name="photo" value="$url"/><RectangleLabels name="b" toName="photo">'
        '<Label value="red circle"/><Label value="blue square"/></RectangleLabels></View>'
    )
    studio = ProjectLabelStudio(config=config, task_ids=[], images={})
    with running(studio) as server:
        variables = {"LABEL_STUDIO_HOST": server.url, "LABEL_STUDIO_ACCESS_TOKEN": studio.token}
        options = ("--input", photos, "--output", tmp_path / "of project", "--project", "3")
        done = annotate(
            *options, "--address-prefix", "https://cdn.example.com/", variables=variables
        )
    assert done.returncode == 3, done.stderr
    [row] = rows_in(tmp_path / "of project")
    assert row["data"] == {"url": "https://cdn.example.com/a/street%201.jpg"}
    (tmp_path / "config.xml").write_text(config)
    run = ("--input", photos, "--output", tmp_path / "of file", "--label-config")
    done = annotate(*run, tmp_path / "config.xml", "--prompt", "red circle . zebra")
    assert done.returncode == 3, done.stderr
    assert "zebra is not a label" in done.stdout
    assert (tmp_path / "of file/label_config.xml").read_text() == config


def test_faults_of_the_command_are_sentences(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    faults: list[tuple[tuple[str | Path, ...], str]] = [
        (("--input", photos, "--output", out), "Say what to look for"),
        (("--input", tmp_path / "x", "--output", out, "--labels", "cat"), "There is no"),
        (
            ("--input", tmp_path / "empty", "--output", out, "--labels", "cat"),
            "nothing to annotate",
        ),
        (("--input", photos, "--output", out, "--prompt", " . "), "names nothing to look for"),
        (("--input", photos, "--output", "s3://b/x", "--labels", "cat"), "needs --ray"),
        (
            ("--input", photos, "--output", out, "--labels", "cat,dog", "--prompt", "zebra"),
            "zebra",
        ),
    ]
    for options, sentence in faults:
        refused = annotate(*options)
        assert refused.returncode == 1, (options, refused.stdout)
        assert sentence in refused.stderr.replace("\n", " "), refused.stderr
        assert "Traceback" not in refused.stderr
    for options in (
        ("--input", photos, "--labels", "cat"),
        ("--input", photos, "--output", out, "--labels", "cat", "--view", "3"),
        ("--input", photos, "--output", out, "--labels", "cat", "--format", "voc"),
        ("--project", "3", "--labels", "cat"),
        (),
    ):
        assert annotate(*options).returncode == 2, options


def test_an_interrupt_ends_cleanly_and_the_next_run_continues(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(60):
        content = (DEMO / "street.jpg").read_bytes()
        (photos / f"{number:02}.jpg").write_bytes(content + b"%d" % number)
    out = tmp_path / "out"
    run = ("--input", str(photos), "--output", str(out), "--labels", LABELS)
    environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [PRELABEL, "annotate", *run], env=environment, stdout=subprocess.PIPE, text=True
    )
    part = out / "tasks/tasks-000000.jsonl.part"
    while process.poll() is None and not (part.exists() and part.stat().st_size):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.endswith("Stopped. Run the same command again to continue.\n")
    stored = len(part.read_bytes().splitlines())
    assert 0 < stored < 60
    done = annotate(*run, "--json")
    assert json.loads(done.stdout)["done"] == 60 - stored
    assert set(keys_in(out).values()) == {1}
    assert len(keys_in(out)) == 60
