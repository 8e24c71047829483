"""A run over a project: complete, each task once, whatever breaks meanwhile."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from prelabel.errors import LabelStudioError
from prelabel.labelstudio import http
from prelabel.labelstudio.bulk import BulkAPI
from prelabel.labelstudio.data_manager import Filters, without_annotations
from prelabel.labelstudio.http import UnreachableError
from prelabel.labelstudio.responses import Prediction, TaskError
from prelabel.labelstudio.rest import StoredTask
from prelabel.projects import annotate
from prelabel.projects.annotate import (
    AnnotateError,
    AnnotateRun,
    Answer,
    NotNowError,
    Predict,
    Progress,
    Target,
    TooManyTasksError,
)
from prelabel.projects.journal import Failure, RunJournal, RunJournalError, failures_in, pictures_in
from tests.support.fake_label_studio import running
from tests.support.fake_projects import ProjectLabelStudio

VERSION = "demo-0123456789"
TASKS = list(range(1, 1001, 3))


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were asked for. They are not made."""
    asked: list[float] = []
    monkeypatch.setattr(time, "sleep", asked.append)
    return asked


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[RunJournal]:
    opened = RunJournal(tmp_path / "run.sqlite")
    yield opened
    opened.close()


def predicted(task: StoredTask, version: str = VERSION) -> Prediction:
    return {"result": [], "score": task.id / 1000, "model_version": version}


def all_predicted(tasks: Sequence[StoredTask]) -> list[Answer]:
    return [predicted(task) for task in tasks]


def task_error(name: str) -> TaskError:
    return {"error": f"This is a sentence about {name}.", "error_type": name, "request_id": "1"}


def failing(faults: Mapping[int, str]) -> Predict:
    """Predict all tasks but those of `faults`, which get an error of that name."""

    def predict(tasks: Sequence[StoredTask]) -> list[Answer]:
        return [
            task_error(faults[task.id]) if task.id in faults else predicted(task) for task in tasks
        ]

    return predict


def finish(
    studio: ProjectLabelStudio,
    journal: RunJournal,
    predict: Predict = all_predicted,
    *,
    filters: Filters | None = None,
    patience_s: float = 60,
    observe: Callable[[Progress], None] = lambda _: None,
) -> Progress:
    with running(studio) as server:
        run = AnnotateRun(
            BulkAPI(server.url, SecretStr(studio.token)),
            predict,
            journal,
            Target(3, VERSION, filters or []),
            concurrency=3,
            patience_s=patience_s,
            observe=observe,
        )
        return run.run()


def assert_each_once(studio: ProjectLabelStudio, tasks: Sequence[int] = TASKS) -> None:
    counts = studio.counts(VERSION)
    assert sorted(counts) == sorted(tasks)
    assert set(counts.values()) <= {1}


def test_every_task_gets_one_prediction_and_a_second_run_adds_none(journal: RunJournal) -> None:
    studio = ProjectLabelStudio(task_ids=TASKS)
    studio.stored = [{"id": 1, "task": TASKS[0], "model_version": "another-0123456789"}]
    seen: list[Progress] = []
    progress = finish(studio, journal, observe=seen.append)
    assert progress == Progress(len(TASKS), len(TASKS), 0) == seen[-1]
    assert_each_once(studio)
    assert next(p["score"] for p in studio.stored if p["task"] == TASKS[5]) == TASKS[5] / 1000
    assert finish(studio, journal) == Progress(0, 0, 0)
    assert len(studio.stored) == len(TASKS) + 1


def test_tasks_of_a_tab_or_without_annotations_only(journal: RunJournal) -> None:
    studio = ProjectLabelStudio(task_ids=TASKS, annotated=set(TASKS[:100]))
    finish(studio, journal, filters=without_annotations())
    assert_each_once(studio, TASKS[100:])


def test_the_filters_of_a_tab_are_taken_as_they_are() -> None:
    [annotated] = without_annotations()
    views = {
        5: {"conjunction": "and", "items": [annotated]},
        6: {"conjunction": "or", "items": [annotated, annotated]},
    }
    studio = ProjectLabelStudio(views=views)
    with running(studio) as server:
        api = BulkAPI(server.url, SecretStr(studio.token))
        assert api.view_filters(3, 5) == [annotated]
        for project, view, sentence in (
            (3, 6, "joined by OR"),
            (3, 7, "no tab 7"),
            (4, 5, "one of project 3"),
        ):
            with pytest.raises(LabelStudioError, match=sentence):
                api.view_filters(project, view)


def test_pictures_of_a_server_that_is_away_are_tried_again_at_the_end(
    journal: RunJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = ProjectLabelStudio(task_ids=TASKS)
    missing, away = set(TASKS[3::50]), set(TASKS[5::20])
    faults = dict.fromkeys(missing, "ImageFetchError")
    faults |= dict.fromkeys(away, "ImageUnavailableError")
    pauses: list[float] = []
    seen: list[Progress] = []

    def sleep(pause_s: float) -> None:
        pauses.append(pause_s)
        if len(pauses) == 3:
            for task in away:
                del faults[task]

    monkeypatch.setattr(time, "sleep", sleep)
    progress = finish(studio, journal, failing(faults), patience_s=900, observe=seen.append)
    assert progress == Progress(len(TASKS), len(TASKS) - len(missing), len(missing))
    assert_each_once(studio, sorted(set(TASKS) - missing))
    assert pauses == [5, 15, 45]
    [waiting, *_] = [each for each in seen if each.waiting_for]
    assert waiting.waiting_for == (
        f"Tasks whose pictures did not arrive: {len(away)}. "
        "This is a sentence about ImageUnavailableError."
    )
    assert waiting.failed == len(missing)
    assert {failure.task for failure in failures_in(journal.path)} == missing


def test_pictures_that_stay_away_fail_once_the_patience_is_over(
    journal: RunJournal, pauses: list[float]
) -> None:
    studio = ProjectLabelStudio(task_ids=TASKS)
    away = set(TASKS[5::20])
    predict = failing(dict.fromkeys(away, "ImageUnavailableError"))
    progress = finish(studio, journal, predict, patience_s=200)
    assert progress == Progress(len(TASKS), len(TASKS) - len(away), len(away))
    assert pauses == [5, 15, 45, 120]
    assert {failure.task for failure in failures_in(journal.path)} == away
    assert finish(studio, journal) == Progress(len(away), len(away), 0)
    assert_each_once(studio)
    assert failures_in(journal.path) == []


def test_ctrl_c_ends_the_wait_for_pictures(
    journal: RunJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = ProjectLabelStudio(task_ids=TASKS)

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    predict = failing({TASKS[0]: "ImageUnavailableError"})
    # The task is neither done nor failed: the next run tries it again.
    assert finish(studio, journal, predict) == Progress(len(TASKS), len(TASKS) - 1, 0)
    assert finish(studio, journal) == Progress(1, 1, 0)
    assert_each_once(studio)


def test_pictures_on_which_their_server_fails_are_not_waited_for_long(
    journal: RunJournal, pauses: list[float]
) -> None:
    studio = ProjectLabelStudio(task_ids=TASKS)
    broken = set(TASKS[3::50])
    predict = failing(dict.fromkeys(broken, "ImageServerError"))
    progress = finish(studio, journal, predict, patience_s=900)
    assert progress == Progress(len(TASKS), len(TASKS) - len(broken), len(broken))
    assert pauses == [5, 15]
    assert {failure.task for failure in failures_in(journal.path)} == broken


def test_a_server_that_is_away_is_waited_for_beside_one_that_fails(
    journal: RunJournal, pauses: list[float]
) -> None:
    studio = ProjectLabelStudio(task_ids=TASKS)
    predict = failing({TASKS[3]: "ImageServerError", TASKS[5]: "ImageUnavailableError"})
    progress = finish(studio, journal, predict, patience_s=100)
    assert progress == Progress(len(TASKS), len(TASKS) - 2, 2)
    assert pauses == [5, 15, 45]


def test_failed_tasks_are_listed_and_tried_again_on_request(journal: RunJournal) -> None:
    studio = ProjectLabelStudio(task_ids=TASKS)
    missing = set(TASKS[3::50])
    predict = failing(dict.fromkeys(missing, "ImageFetchError"))
    progress = finish(studio, journal, predict)
    assert progress == Progress(len(TASKS), len(TASKS) - len(missing), len(missing))
    assert_each_once(studio, sorted(set(TASKS) - missing))
    expected = [
        Failure(task, "This is a sentence about ImageFetchError.") for task in sorted(missing)
    ]
    assert failures_in(journal.path) == expected
    assert finish(studio, journal, predict).done == 0
    journal.forget_failures()
    finish(studio, journal)
    assert_each_once(studio)


def test_what_label_studio_leaves_out_or_refuses_is_found(journal: RunJournal) -> None:
    left_out, unknown = set(TASKS[7:300:90]), {TASKS[11], TASKS[12], TASKS[250]}
    studio = ProjectLabelStudio(task_ids=TASKS, leaves_out=left_out, unknown=unknown)
    progress = finish(studio, journal)
    assert progress.failed == len(left_out | unknown)
    assert_each_once(studio, sorted(set(TASKS) - left_out - unknown))
    reasons = {failure.task: failure.reason for failure in failures_in(journal.path)}
    assert set(reasons) == left_out | unknown
    assert all("does not fit the labeling config" in reasons[task] for task in left_out)
    assert all("not found in project" in reasons[task] for task in unknown)


@pytest.mark.parametrize("fault", ["OverloadedError", "DeadlineError"])
def test_an_overloaded_service_is_asked_again(
    journal: RunJournal, pauses: list[float], fault: str
) -> None:
    studio = ProjectLabelStudio(task_ids=TASKS)
    lock, asked = threading.Lock(), [0]

    def predict(tasks: Sequence[StoredTask]) -> list[Answer]:
        with lock:
            asked[0] += 1
            is_busy = asked[0] % 3 == 0
        return [
            task_error(fault) if is_busy and i % 2 else predicted(task)
            for i, task in enumerate(tasks)
        ]

    assert finish(studio, journal, predict) == Progress(len(TASKS), len(TASKS), 0)
    assert_each_once(studio)
    assert pauses


def test_an_outage_of_the_service_is_waited_out(journal: RunJournal, pauses: list[float]) -> None:
    studio = ProjectLabelStudio(task_ids=TASKS)
    waiting: list[str | None] = []
    left = [20]

    def predict(tasks: Sequence[StoredTask]) -> list[Answer]:
        if left[0] > 0:
            left[0] -= 1
            raise NotNowError("No service answers.")
        return all_predicted(tasks)

    finish(studio, journal, predict, observe=lambda p: waiting.append(p.waiting_for))
    assert_each_once(studio)
    assert "No service answers." in waiting
    assert max(pauses) == 30
    assert waiting[-1] is None


def test_a_request_that_takes_too_long_is_halved(journal: RunJournal) -> None:
    studio = ProjectLabelStudio(task_ids=TASKS)
    sizes: list[int] = []

    def predict(tasks: Sequence[StoredTask]) -> list[Answer]:
        sizes.append(len(tasks))
        if len(tasks) > 2 or tasks[0].id == TASKS[40]:
            raise TooManyTasksError("It did not answer in time.")
        return all_predicted(tasks)

    progress = finish(studio, journal, predict)
    assert progress.failed == 1
    assert [failure.task for failure in failures_in(journal.path)] == [TASKS[40]]
    assert_each_once(studio, [task for task in TASKS if task != TASKS[40]])


def test_lost_answers_of_label_studio_store_nothing_twice(journal: RunJournal) -> None:
    studio = ProjectLabelStudio(task_ids=TASKS, loses_answers=3)
    assert finish(studio, journal) == Progress(len(TASKS), len(TASKS), 0)
    assert_each_once(studio)
    assert not journal.in_doubt()


def test_an_outage_of_label_studio_is_waited_out(
    journal: RunJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = ProjectLabelStudio(task_ids=TASKS)
    silent_for = [0]

    def sleep(_: float) -> None:
        silent_for[0] -= 1
        studio.is_silent = silent_for[0] > 0

    monkeypatch.setattr(time, "sleep", sleep)
    requests = [0]

    def predict(tasks: Sequence[StoredTask]) -> list[Answer]:
        requests[0] += 1
        if requests[0] == 4:
            studio.is_silent, silent_for[0] = True, 5
        if studio.is_silent:
            return [task_error("ImageFetchError") for _ in tasks]
        return all_predicted(tasks)

    assert finish(studio, journal, predict) == Progress(len(TASKS), len(TASKS), 0)
    assert_each_once(studio)


@pytest.mark.parametrize("stored", [True, False])
def test_a_killed_run_continues(tmp_path: Path, stored: bool) -> None:
    """Killed while Label Studio stores, or just before."""
    studio = ProjectLabelStudio(task_ids=TASKS)
    first = RunJournal(tmp_path / "run.sqlite")
    batch = {task: predicted(StoredTask(task, {})) for task in TASKS[:50]}
    first.note_sent(batch, {})
    first.close()
    if stored:
        studio.stored = [{"id": i, "task": task, **p} for i, (task, p) in enumerate(batch.items())]
        studio.stored += [{"id": 900, "task": TASKS[4], **batch[TASKS[4]]}]  # a doubled one
    second = RunJournal(tmp_path / "run.sqlite")
    progress = finish(studio, second)
    second.close()
    left = len(TASKS) - 50 * stored
    assert progress == Progress(left, left, 0)
    assert_each_once(studio)


def test_without_any_progress_the_run_ends_with_the_reason(
    journal: RunJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def predict(tasks: Sequence[StoredTask]) -> list[Answer]:
        now[0] += 45
        raise NotNowError("No service answers at http://127.0.0.1:9090.")

    studio = ProjectLabelStudio(task_ids=TASKS)
    with pytest.raises(AnnotateError, match=r"for 5 minutes\. No service answers .* to continue\."):
        finish(studio, journal, predict, patience_s=300)


def test_another_model_version_ends_the_run(journal: RunJournal) -> None:
    studio = ProjectLabelStudio(task_ids=TASKS)

    def predict(tasks: Sequence[StoredTask]) -> list[Answer]:
        return [predicted(t, VERSION if t.id < 100 else "demo-9876543210") for t in tasks]

    with pytest.raises(AnnotateError, match="answers with model version demo-9876543210 now"):
        finish(studio, journal, predict)
    assert {p["model_version"] for p in studio.stored} == {VERSION}


def test_ctrl_c_stores_what_is_under_way(
    journal: RunJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = ProjectLabelStudio(task_ids=TASKS)
    waits = [0]
    wait = concurrent.futures.wait

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        waits[0] += 1
        if waits[0] == 2:
            raise KeyboardInterrupt
        return wait(*args, **kwargs)

    monkeypatch.setattr(annotate, "wait", interrupted)
    progress = finish(studio, journal)
    assert 0 < progress.done < len(TASKS)
    assert progress.done == len(studio.stored)
    finish(studio, journal)
    assert_each_once(studio)


def test_a_restarted_label_studio_gives_a_new_access_token() -> None:
    studio = ProjectLabelStudio(task_ids=TASKS)
    with running(studio) as server:
        api = BulkAPI(server.url, SecretStr(studio.token))
        api.user()
        studio.access = "eyJhY2Nlc3M.eyJhY2Nlc3M.bmV3"
        assert api.tasks_without(3, VERSION, after=0, count=1, filters=[]).remaining == len(TASKS)
        studio.is_silent = True
        for asked in (api, BulkAPI(server.url, SecretStr(studio.token))):
            with pytest.raises(UnreachableError):
                asked.user()


def test_pages_whose_predictions_are_too_long_are_made_smaller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    studio = ProjectLabelStudio(task_ids=TASKS)
    studio.stored = [
        {"id": task, "task": task, "model_version": "another", "result": ["x" * 1000]}
        for task in TASKS
    ]
    monkeypatch.setattr(http, "MAX_BODY_BYTES", 30_000)
    with running(studio) as server:
        api = BulkAPI(server.url, SecretStr(studio.token))
        page = api.tasks_of(3, after=0, count=200, filters=[])
        assert [task.id for task in page.tasks] == TASKS[: len(page.tasks)]
        assert page.remaining == len(TASKS)
        assert 10 < len(page.tasks) < 30
        asked = len(server.received)
        api.tasks_of(3, after=page.tasks[-1].id, count=200, filters=[])
        assert len(server.received) == asked + 1
        monkeypatch.setattr(http, "MAX_BODY_BYTES", 900)
        with pytest.raises(LabelStudioError):
            api.tasks_of(3, after=0, count=200, filters=[])


def test_two_runs_do_not_share_a_journal(journal: RunJournal) -> None:
    with pytest.raises(RunJournalError, match="Another run uses"):
        RunJournal(journal.path)


def test_a_journal_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    path.write_bytes(b"this is not a database" * 100)
    for read in (RunJournal, failures_in):
        with pytest.raises(RunJournalError, match="--journal"):
            read(path)
    assert failures_in(tmp_path / "missing.sqlite") == []


def test_the_hashes_of_pictures_are_kept(journal: RunJournal) -> None:
    studio = ProjectLabelStudio(task_ids=TASKS[:3])

    def predict(tasks: Sequence[StoredTask]) -> list[Answer]:
        hashes = {TASKS[0]: ["f" * 16], TASKS[1]: ["8" + "0" * 15, "0" * 15 + "1"]}
        return [
            {**predicted(task), "picture_hashes": hashes[task.id]}
            if task.id in hashes
            else predicted(task)
            for task in tasks
        ]

    finish(studio, journal, predict)
    kept = pictures_in(journal.path)
    assert kept.tasks.tolist() == [TASKS[0], TASKS[1], TASKS[1]]
    assert kept.pictures.tolist() == [0, 0, 1]
    assert kept.hashes.tolist() == [2**64 - 1, 2**63, 1]
    assert not any("picture_hashes" in stored for stored in studio.stored)
