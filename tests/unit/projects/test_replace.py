"""Older predictions are replaced: never others', never before the newer ones are stored."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from prelabel.labelstudio.bulk import BulkAPI
from prelabel.labelstudio.data_manager import without_annotations
from prelabel.labelstudio.responses import Prediction
from prelabel.labelstudio.rest import StoredTask
from prelabel.projects.annotate import AnnotateError, AnnotateRun, Answer, Predict, Progress, Target
from prelabel.projects.journal import RunJournal, count_made_in, failures_in
from tests.support.fake_label_studio import running
from tests.support.fake_projects import ProjectLabelStudio

VERSION, OLDER, OTHERS = "demo-01234567", "demo-89abcdef", "yolo-01234567"
TASKS = list(range(1, 301))
CAT = '{"prompt": "cat"}'


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[RunJournal]:
    opened = RunJournal(tmp_path / "run.sqlite")
    yield opened
    opened.close()


def predict(tasks: Sequence[StoredTask]) -> list[Answer]:
    return [predicted(task.id) for task in tasks]


def predicted(task: int) -> Prediction:
    return {"result": [], "score": task / 1000, "model_version": VERSION}


def finish(
    studio: ProjectLabelStudio, journal: RunJournal, target: Target, predict: Predict = predict
) -> Progress:
    with running(studio) as server:
        run = AnnotateRun(
            BulkAPI(server.url, SecretStr(studio.token)),
            predict,
            journal,
            target,
            concurrency=3,
            patience_s=60,
            observe=lambda _: None,
        )
        return run.run()


def studio_with(*versions: str, tasks: Sequence[int] = TASKS) -> ProjectLabelStudio:
    """Return a Label Studio whose tasks have a prediction of each of the versions."""
    stored: list[dict[str, Any]] = [
        {"id": i, "task": task, "model_version": version}
        for i, (version, task) in enumerate(((v, t) for v in versions for t in tasks), 1)
    ]
    return ProjectLabelStudio(task_ids=TASKS, stored=stored)


def test_older_versions_are_removed_and_others_stay(journal: RunJournal) -> None:
    studio = studio_with(OLDER, OTHERS)
    studio.project["model_version"] = OLDER
    progress = finish(studio, journal, Target(3, VERSION, [], older=(OLDER,)))
    assert progress == Progress(len(TASKS), len(TASKS), 0, removed=len(TASKS))
    assert not studio.counts(OLDER)
    assert studio.counts(VERSION) == studio.counts(OTHERS) == dict.fromkeys(TASKS, 1)
    assert studio.project["model_version"] == VERSION  # else annotators would see none


@pytest.mark.parametrize("lists_predictions", [True, False])
def test_a_task_without_a_new_prediction_keeps_the_older_one(
    journal: RunJournal, lists_predictions: bool
) -> None:
    studio = studio_with(OLDER, OLDER)
    studio.lists_predictions = lists_predictions
    studio.leaves_out = {TASKS[7], TASKS[250]}
    progress = finish(studio, journal, Target(3, VERSION, [], older=(OLDER,)))
    assert progress.removed == 2 * (len(TASKS) - 2)
    assert studio.counts(OLDER) == dict.fromkeys(studio.leaves_out, 2)
    studio.leaves_out = set()
    journal.forget_failures()
    assert finish(studio, journal, Target(3, VERSION, [], older=(OLDER,))).removed == 4
    assert {p["model_version"] for p in studio.stored} == {VERSION}


def test_tasks_outside_of_the_filters_keep_theirs(journal: RunJournal) -> None:
    studio = studio_with(OLDER, VERSION)
    studio.annotated = set(TASKS[:100])
    target = Target(3, VERSION, without_annotations(), older=(OLDER,))
    assert finish(studio, journal, target) == Progress(0, 0, 0, removed=200)
    assert sorted(studio.counts(OLDER)) == TASKS[:100]


def test_a_prompt_renews_predictions_of_the_same_version_once(journal: RunJournal) -> None:
    studio = studio_with(VERSION, OTHERS)
    target = Target(3, VERSION, [], request=CAT, renews=True)
    assert finish(studio, journal, target) == Progress(300, 300, 0, removed=300)
    assert studio.counts(VERSION) == studio.counts(OTHERS) == dict.fromkeys(TASKS, 1)
    renewed = {p["id"] for p in studio.stored if p["model_version"] == VERSION}
    assert min(renewed) > 600
    assert finish(studio, journal, target) == Progress(0, 0, 0)
    assert count_made_in(journal.path, CAT) == journal.count_made(CAT) == 300
    assert journal.count_made('{"prompt": "dog"}') == 0
    again = Target(3, VERSION, [], request='{"prompt": "dog"}', renews=True)
    assert finish(studio, journal, again) == Progress(300, 300, 0, removed=300)
    assert studio.counts(VERSION) == dict.fromkeys(TASKS, 1)
    assert journal.count_made(CAT) == 0


def test_a_renewal_that_is_killed_continues_with_the_tasks_that_are_left(tmp_path: Path) -> None:
    studio = studio_with(VERSION)
    calls = [0]

    def die(tasks: Sequence[StoredTask]) -> list[Answer]:
        calls[0] += 1
        if calls[0] == 6:
            raise RuntimeError
        return predict(tasks)

    path = tmp_path / "run.sqlite"
    target = Target(3, VERSION, [], request=CAT, renews=True)
    first = RunJournal(path)
    with pytest.raises(RuntimeError):
        finish(studio, first, target, die)
    first.close()
    assert set(studio.counts(VERSION)) == set(TASKS)  # never a moment without
    second = RunJournal(path)
    made = second.count_made(CAT)
    assert 0 < made < len(TASKS)
    progress = finish(studio, second, target)
    second.close()
    assert progress == Progress(300 - made, 300 - made, 0, removed=300 - made)
    assert studio.counts(VERSION) == dict.fromkeys(TASKS, 1)
    assert min(p["id"] for p in studio.stored) > 300


@pytest.mark.parametrize("moment", ["before storing", "after storing", "while removing"])
def test_killed_around_a_batch_nothing_is_lost_or_doubled(tmp_path: Path, moment: str) -> None:
    studio = studio_with(VERSION)
    path, batch = tmp_path / "run.sqlite", TASKS[:50]
    first = RunJournal(path)
    first.begin(CAT)
    first.note_sent(batch, {task: [task] for task in batch})
    if moment != "before storing":
        studio.stored += [{"id": 1000 + task, "task": task, **predicted(task)} for task in batch]
    if moment == "while removing":
        first.note_settled(batch)
        studio.stored = [p for p in studio.stored if p["id"] not in batch[:20]]
    first.close()
    second = RunJournal(path)
    finish(studio, second, Target(3, VERSION, [], request=CAT, renews=True))
    assert studio.counts(VERSION) == dict.fromkeys(TASKS, 1)
    assert min(p["id"] for p in studio.stored) > 300
    assert not second.replaced()
    second.close()


def test_what_a_killed_run_stored_without_the_prompt_is_renewed(tmp_path: Path) -> None:
    studio = studio_with(VERSION)
    first = RunJournal(tmp_path / "run.sqlite")
    first.note_sent(TASKS[:50], {})
    first.close()
    second = RunJournal(tmp_path / "run.sqlite")
    finish(studio, second, Target(3, VERSION, [], request=CAT, renews=True))
    second.close()
    assert min(p["id"] for p in studio.stored) > 300


def test_tasks_in_doubt_count_for_the_newest_prompt(journal: RunJournal) -> None:
    journal.begin(CAT)
    journal.note_sent([1, 2], {})
    journal.note_settled([1])
    assert journal.count_made(CAT) == count_made_in(journal.path, CAT) == 2
    journal.begin("")
    assert journal.count_made(CAT) == 1
    assert count_made_in(journal.path.with_name("missing.sqlite"), CAT) == 0


def test_lost_answers_do_not_cost_the_older_prediction(journal: RunJournal) -> None:
    studio = studio_with(VERSION)
    studio.loses_answers = 2
    studio.leaves_out = {TASKS[3]}
    finish(studio, journal, Target(3, VERSION, [], request=CAT, renews=True))
    assert studio.counts(VERSION) == dict.fromkeys(TASKS, 1)
    assert [p["id"] for p in studio.stored if p["task"] == TASKS[3]] == [TASKS[3]]
    assert [failure.task for failure in failures_in(journal.path)] == [TASKS[3]]


def test_predictions_that_were_removed_by_hand_are_made_again(journal: RunJournal) -> None:
    studio = studio_with()
    target = Target(3, VERSION, [], request=CAT, renews=True)
    finish(studio, journal, target)
    studio.stored = studio.stored[:100]
    assert finish(studio, journal, target) == Progress(200, 200, 0)


def test_a_prompt_that_fits_no_task_ends_the_run(journal: RunJournal) -> None:
    studio = studio_with(VERSION)
    fault = "The prompt's 'ship' is not a label of this project."

    def refuse(tasks: Sequence[StoredTask]) -> list[Answer]:
        return [{"error": fault, "error_type": "PromptError", "request_id": "1"} for _ in tasks]

    with pytest.raises(AnnotateError, match="'ship' is not a label"):
        finish(studio, journal, Target(3, VERSION, [], request=CAT, renews=True), refuse)
    assert failures_in(journal.path) == []
    assert len(studio.stored) == 300


def test_another_prompt_forgets_the_failures_of_the_one_before(journal: RunJournal) -> None:
    journal.begin("")
    journal.note_failed({1: "A sentence."})
    journal.begin("")
    assert journal.failed_among([1, 2]) == {1}
    journal.begin(CAT)
    assert journal.failed_among([1, 2]) == set()
