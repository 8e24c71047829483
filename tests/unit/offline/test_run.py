"""Runs over folders and files: what is stored, and what happens after an interruption."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prelabel.labelstudio.predictions import to_prediction
from prelabel.labelstudio.task_rows import boxes_config, to_line
from prelabel.offline.folders import FolderSource
from prelabel.offline.items import OutputError
from prelabel.offline.predictor import LocalPredictor, Search
from prelabel.offline.results import ResultFolder, failures_in, shard_paths
from prelabel.offline.run import RunError
from prelabel.offline.task_files import TaskFileSource
from prelabel.types import PromptRequest
from tests.support.counting_engine import CountingEngine, encoded
from tests.support.demo_cases import complaints
from tests.support.offline import (
    ADDRESS,
    LABELS,
    annotate,
    counting_predictor,
    keys_in,
    manifest,
    pictures_in,
    rows_in,
)
from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def predictor() -> LocalPredictor:
    return counting_predictor()


def test_all_pictures_become_tasks_of_label_studio(tmp_path: Path) -> None:
    folder = pictures_in(tmp_path / "photos", 30)
    engine = CountingEngine()
    predictor = counting_predictor(engine)
    checked = engine.seen  # by the smoke test
    progress = annotate(FolderSource(folder, ADDRESS), tmp_path / "out", predictor, shard_rows=8)
    assert (progress.done, progress.failed, progress.listed) == (30, 0, 30)
    assert engine.seen - checked == 30
    assert [len(path.read_bytes().splitlines()) for path in shard_paths(tmp_path / "out")] == [
        8,
        8,
        8,
        6,
    ]
    rows = rows_in(tmp_path / "out")
    assert [row["meta"]["prelabel"]["input"] for row in rows] == sorted(keys_in(tmp_path / "out"))
    for row in rows:
        [prediction] = row["predictions"]
        assert complaints(boxes_config(LABELS), prediction) == []
        assert prediction["model_version"] == predictor.version
        assert len(prediction["result"]) > 0
        assert row["data"]["image"].startswith("/data/local-files/?d=photos/")
    again = annotate(FolderSource(folder, ADDRESS), tmp_path / "out", predictor, shard_rows=8)
    assert (again.done, engine.seen - checked) == (0, 30)
    assert set(keys_in(tmp_path / "out").values()) == {1}


def test_a_broken_picture_costs_no_neighbour(tmp_path: Path, predictor: LocalPredictor) -> None:
    folder = pictures_in(tmp_path / "photos", 6)
    (folder / "0/broken.png").write_bytes(encoded()[:60])
    (folder / "1/empty.jpg").touch()
    (folder / "2/gone.png").symlink_to("nowhere")
    source = FolderSource(folder, ADDRESS)
    progress = annotate(source, tmp_path / "out", predictor)
    assert (progress.done, progress.failed) == (6, 3)
    failed = dict(failures_in(tmp_path / "out"))
    assert failed.keys() == {"0/broken.png", "1/empty.jpg", "2/gone.png"}
    assert all(sentence.endswith(".") for sentence in failed.values())
    # They are left out until they are tried again.
    (folder / "0/broken.png").write_bytes(encoded())
    assert annotate(source, tmp_path / "out", predictor).done == 0
    results = ResultFolder(tmp_path / "out", manifest(Path("input")))
    results.forget_failures()
    results.close()
    assert annotate(source, tmp_path / "out", predictor).done == 1
    assert dict(failures_in(tmp_path / "out")).keys() == {"1/empty.jpg", "2/gone.png"}
    assert set(keys_in(tmp_path / "out").values()) == {1}


def test_tasks_keep_their_fields_and_equal_ones_are_annotated_once(
    tmp_path: Path, predictor: LocalPredictor
) -> None:
    (tmp_path / "a.png").write_bytes(encoded())
    lines = [
        {"data": {"image": str(tmp_path / "a.png"), "n": n % 3}, "meta": {"n": n}} for n in range(9)
    ]
    path = tmp_path / "tasks.jsonl"
    path.write_text("\n".join([*map(json.dumps, lines), "{broken"]))
    progress = annotate(TaskFileSource(path), tmp_path / "out", predictor)
    assert (progress.done, progress.failed, progress.listed) == (3, 1, 10)
    rows = rows_in(tmp_path / "out")
    assert [row["data"]["n"] for row in rows] == [0, 1, 2]
    assert [row["meta"]["n"] for row in rows] == [0, 1, 2]
    assert list(failures_in(tmp_path / "out")) == [
        ("line 10", "The line is not valid JSON. Write one task a line.")
    ]


def test_prompt_and_thresholds_are_those_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded())
    asked = PromptRequest("cat . zebra", box_threshold=0.8)
    predictor = counting_predictor(search=Search(boxes_config(LABELS), asked))
    annotate(FolderSource(tmp_path, ADDRESS), tmp_path / "out", predictor)
    [row] = rows_in(tmp_path / "out")
    regions = row["predictions"][0]["result"]
    assert {tuple(region["value"].get("rectanglelabels", ())) for region in regions} <= {
        ("cat",),
        (),
    }
    assert all(region["score"] >= 0.8 for region in regions)
    assert {match["phrase"] for match in row["meta"]["prelabel"]["matches"]} == {"cat", "zebra"}


def test_another_run_is_not_mixed_in(tmp_path: Path) -> None:
    ResultFolder(tmp_path / "out", manifest(tmp_path / "mistyped")).close()
    ResultFolder(tmp_path / "out", manifest(tmp_path)).close()  # nothing was stored
    (tmp_path / "out/tasks/tasks-000000.jsonl").write_bytes(
        to_line("a.png", {}, {}, to_prediction([], "demo-1"), [])
    )
    with pytest.raises(OutputError, match=r"the model version was another .demo-1, now demo-2"):
        ResultFolder(tmp_path / "out", manifest(tmp_path, "demo-2"))
    other = Search(boxes_config(["zebra"]))
    with pytest.raises(OutputError, match="the labeling config was another"):
        ResultFolder(tmp_path / "out", manifest(tmp_path, search=other))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("text")
    with pytest.raises(OutputError, match="has other files"):
        ResultFolder(tmp_path / "mine", manifest(tmp_path))
    opened = ResultFolder(tmp_path / "out", manifest(tmp_path))
    with pytest.raises(OutputError, match="Another process writes"):
        ResultFolder(tmp_path / "out", manifest(tmp_path))
    opened.close()


def test_an_output_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        ResultFolder(tmp_path / "file/out", manifest(tmp_path))
    results = ResultFolder(tmp_path / "out", manifest(tmp_path))
    (tmp_path / "out/tasks/tasks-000000.jsonl.part").symlink_to("/dev/full")
    predictor = counting_predictor()
    pictures_in(tmp_path / "photos", 2)
    [row, _] = predictor.predict(list(FolderSource(tmp_path / "photos", ADDRESS).items())).result()
    with pytest.raises(OutputError, match="No space left on device"):
        results.add([row], [])  # type: ignore[list-item]
    results.close()


def test_a_removed_index_or_shard_is_made_good(tmp_path: Path, predictor: LocalPredictor) -> None:
    folder = pictures_in(tmp_path / "photos", 20)
    source, out = FolderSource(folder, ADDRESS), tmp_path / "out"
    annotate(source, out, predictor, shard_rows=8)
    (out / ".index.sqlite").write_bytes(b"no database" * 100)
    assert annotate(source, out, predictor, shard_rows=8).done == 0
    shard_paths(out)[1].unlink()
    assert annotate(source, out, predictor, shard_rows=8).done == 8
    assert set(keys_in(out).values()) == {1}
    assert len(keys_in(out)) == 20


def test_storage_that_fails_ends_the_run_and_fails_no_picture(
    tmp_path: Path, predictor: LocalPredictor
) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(f'{{"image": "gone/{n}.png"}}\n' for n in range(500)))
    with pytest.raises(RunError, match=r"pictures did not arrive: The file .* cannot be read"):
        annotate(TaskFileSource(path), tmp_path / "out", predictor)
    assert list(failures_in(tmp_path / "out")) == []


def test_a_broken_model_ends_the_run(tmp_path: Path) -> None:
    class Breaks(CountingEngine):
        pass

    engine = Breaks()
    predictor = counting_predictor(engine)
    engine._broken = True
    with pytest.raises(RunError, match="The model failed"):
        annotate(FolderSource(pictures_in(tmp_path / "p", 40), ADDRESS), tmp_path / "o", predictor)


@pytest.mark.slow
def test_killed_at_any_moment_it_continues_and_repeats_little(tmp_path: Path) -> None:
    folder, out, notes = pictures_in(tmp_path / "photos", 100), tmp_path / "out", tmp_path / "notes"
    notes.touch()
    command: list[str | Path] = [sys.executable, "-m", "tests.support.offline", folder, out, notes]
    dice, kills = random.Random(7), 0
    while kills < 2:
        before = notes.stat().st_size
        run = subprocess.Popen(command, cwd=ROOT)
        wanted = before + dice.randint(2, 40)
        while run.poll() is None and notes.stat().st_size < wanted:
            time.sleep(0.001)
        run.kill()
        run.wait(60)
        kills += 1
    assert subprocess.run(command, cwd=ROOT, check=False, timeout=300).returncode == 0
    assert set(keys_in(out).values()) == {1}
    assert len(keys_in(out)) == 100
    # Each start checks the engine with one pass, and each kill loses at most what was in flight.
    assert notes.stat().st_size <= 100 + (kills + 1) + kills * 4 * (3 + 1)
