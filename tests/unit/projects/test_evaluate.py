"""An annotated project, read through Label Studio's API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from pydantic import SecretStr

from prelabel.errors import LabelStudioError
from prelabel.evaluation.report import report_on
from prelabel.labelstudio.annotated_tasks import EvaluationAPI
from prelabel.labelstudio.http import MAX_BODY_BYTES
from prelabel.labelstudio.labeling_config import LabelingConfig, parse_labeling_config
from prelabel.labelstudio.rest import StoredTask
from prelabel.projects.annotate import NotNowError, TooManyTasksError
from prelabel.projects.ask import PatientAsker
from prelabel.projects.evaluate import (
    Answer,
    EvaluateError,
    ProjectReader,
    ReadProject,
    check_samples,
    current_thresholds,
    newest_version,
)
from tests.support.fake_annotations import AnnotatedLabelStudio, region
from tests.support.fake_label_studio import running

VERSION, OLD = "demo-0123456789", "demo-older"
CONFIG = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
    '<Label value="cat"/><Label value="dog"/></RectangleLabels></View>'
)
CAT, DOG = (64, 48, 128, 96), (300, 200, 400, 300)


@pytest.fixture
def studio() -> AnnotatedLabelStudio:
    """Seven tasks: annotated twice, by two people, empty, skipped, unpredicted, not at all."""
    tasks = list(range(1, 8))
    images = {task: f"/data/upload/3/{task}.png" for task in tasks}
    studio = AnnotatedLabelStudio(config=CONFIG, task_ids=tasks, images=images)
    studio.annotate(1, [region("dog", CAT)], at=1)
    studio.annotate(1, [region("cat", CAT)], at=2)
    studio.annotate(2, [region("cat", CAT), region("dog", DOG, number="r2")], user=1, at=5)
    studio.annotate(2, [region("cat", CAT)], user=2, at=4)
    studio.annotate(3, [])
    studio.annotate(4, [region("cat", CAT)], at=1)
    studio.annotate(4, [], at=2, was_cancelled=True)
    studio.annotate(5, [region("cat", CAT)], was_cancelled=True)
    studio.annotate(6, [region("cat", CAT)])
    for task in (1, 2, 3, 4, 5, 7):
        studio.predict(task, [region("cat", CAT, score=0.9)], OLD)
        studio.predict(task, [region("dog", DOG, score=0.8)], VERSION)
    studio.predict(1, [region("cat", CAT, score=0.7), region("dog", DOG, score=0.8)], VERSION)
    return studio


@pytest.fixture
def api(studio: AnnotatedLabelStudio) -> Iterator[EvaluationAPI]:
    with running(studio) as server:
        yield EvaluationAPI(server.url, SecretStr(studio.token))


def reader(config: LabelingConfig | None = None) -> ProjectReader:
    return ProjectReader(config or parse_labeling_config(CONFIG, 100), lambda _: None)


def test_the_newest_submitted_annotation_meets_the_newest_prediction(api: EvaluationAPI) -> None:
    read = reader().read_stored(api.annotated_tasks(3), VERSION)
    by_task = {sample.task: sample for sample in read.samples}
    assert list(by_task) == [1, 2, 3, 4]
    assert by_task[1].truth.labels == ("cat",)
    assert by_task[1].truth.xyxy.tolist() == [pytest.approx(CAT)]
    assert by_task[1].predicted.labels == ("dog", "cat")
    assert by_task[1].predicted.scores.tolist() == [0.8, 0.7]
    assert by_task[1].image_wh == (640, 480)
    assert by_task[1].uri == "/data/upload/3/1.png"
    assert by_task[2].truth.labels == ("cat", "dog")
    assert by_task[3].truth.labels == ()
    assert (read.tasks, read.unpredicted) == (5, 1)
    assert read.other_versions == {OLD: 4}
    report = report_on(read.samples, annotated=read.annotated)
    assert report.negatives == 1
    assert report.agreement is not None
    assert report.agreement.pictures == 1
    assert report.agreement.f1 == pytest.approx(2 / 3)


def test_predictions_that_are_asked_for_are_not_stored(
    api: EvaluationAPI, studio: AnnotatedLabelStudio
) -> None:
    asked: list[StoredTask] = []

    def ask(tasks: Sequence[StoredTask]) -> list[Answer]:
        asked.extend(tasks)
        return [
            {"error": "No picture.", "error_type": "ImageFetchError", "request_id": "1"}
            if task.id == 4
            else {
                "result": [region("cat", CAT, score=0.9)],  # type: ignore[list-item]
                "score": 0.9,
                "model_version": "new-1",
            }
            for task in tasks
        ]

    before = list(studio.stored)
    read = reader().read_fresh(api.annotated_tasks(3), ask)
    assert [task.id for task in asked] == [1, 2, 3, 4, 6]
    assert asked[0].content == {"id": 1, "data": {"image": "/data/upload/3/1.png"}}
    assert (read.version, read.failures) == ("new-1", {4: "No picture."})
    assert [sample.task for sample in read.samples] == [1, 2, 3, 6]
    assert studio.stored == before


def test_an_annotation_remembers_the_prediction_that_it_was_made_from(
    api: EvaluationAPI, studio: AnnotatedLabelStudio
) -> None:
    parent = studio.predict(6, [region("cat", CAT, score=0.6, number="kept")], OLD)
    studio.annotations[6] = []
    studio.annotate(6, [region("cat", CAT, number="kept")], parent_prediction=parent)
    studio.predict(6, [], VERSION)
    read = reader().read_stored(api.annotated_tasks(3), VERSION)
    [sample] = [sample for sample in read.samples if sample.task == 6]
    assert sample.corrected is not None
    assert sample.corrected.ids == sample.truth.ids == ("kept",)
    fixed = report_on([sample]).corrections
    assert (fixed.kept, fixed.pictures) == (1, 1)


def test_each_picture_of_a_list_is_a_sample(
    api: EvaluationAPI, studio: AnnotatedLabelStudio
) -> None:
    config = parse_labeling_config(CONFIG.replace('value="$image"', 'valueList="$image"'), 100)
    studio.images[1] = ["a.png", "b.png"]  # type: ignore[assignment]
    studio.annotations = {}
    studio.annotate(1, [region("cat", CAT, item_index=1), region("cat", CAT, item_index=7)])
    read = reader(config).read_stored(api.annotated_tasks(3), OLD)
    found = [(s.uri, s.item_index, len(s.truth), len(s.predicted)) for s in read.samples]
    assert found == [("a.png", 0, 0, 1), ("b.png", 1, 1, 0)]
    assert read.left_out == {"box on another picture": 1}


def test_pages_that_are_too_large_are_asked_for_again_in_parts(
    api: EvaluationAPI, studio: AnnotatedLabelStudio
) -> None:
    studio.task_ids = list(range(1, 41))
    large = [{**region("cat", CAT), "meta": "x" * (MAX_BODY_BYTES // 20)}]
    studio.annotations = {}
    for task in studio.task_ids:
        studio.annotate(task, large)
    pages = [[task.id for task in page] for page in api.annotated_tasks(3)]
    assert [task for page in pages for task in page] == studio.task_ids
    assert len(pages) > 2


def test_what_is_missing_is_said(api: EvaluationAPI, studio: AnnotatedLabelStudio) -> None:
    read = reader().read_stored(api.annotated_tasks(3), "none-1")
    with pytest.raises(EvaluateError, match=f"{OLD} \\(4 tasks\\).*--model-version"):
        check_samples(read, 3, is_stored=True)
    failed = ReadProject(tasks=2, failures={7: "No picture."})
    with pytest.raises(EvaluateError, match="Task 7: No picture"):
        check_samples(failed, 3, is_stored=False)
    studio.images = {}
    read = reader().read_stored(api.annotated_tasks(3), VERSION)
    with pytest.raises(EvaluateError, match=r"None of the 5 annotated.*no picture's address"):
        check_samples(read, 3, is_stored=True)
    studio.annotations = {}
    read = reader().read_stored(api.annotated_tasks(3), VERSION)
    with pytest.raises(EvaluateError, match="no submitted annotation"):
        check_samples(read, 3, is_stored=True)


def test_the_newest_version_of_the_annotated_tasks(
    api: EvaluationAPI, studio: AnnotatedLabelStudio
) -> None:
    assert newest_version(api.annotated_tasks(3)) == VERSION
    studio.predict(2, [], OLD)
    assert newest_version(api.annotated_tasks(3)) == OLD
    studio.stored = []
    assert newest_version(api.annotated_tasks(3)) is None


def test_a_config_that_label_studio_refuses_is_an_error(
    api: EvaluationAPI, studio: AnnotatedLabelStudio
) -> None:
    project = api.project(3)
    assert api.set_label_config(project, CONFIG + " ").label_config == CONFIG + " "
    studio.refuses_config = "Label in use"
    with pytest.raises(LabelStudioError, match="Label in use"):
        api.set_label_config(project, CONFIG)


def test_thresholds_have_the_precedence_of_predictions() -> None:
    xml = (
        '<View><Image name="image" value="$image"/>'
        '<Number name="box_threshold" toName="image" defaultValue="0.2"/>'
        '<RectangleLabels name="a" toName="image" model_score_threshold="0.5">'
        '<Label value="own" model_score_threshold="0"/><Label value="tag"/></RectangleLabels>'
        '<RectangleLabels name="b" toName="image"><Label value="config"/></RectangleLabels></View>'
    )
    config = parse_labeling_config(xml, 100)
    assert current_thresholds(config, 0.3) == {"own": 0.0, "tag": 0.5, "config": 0.2}
    assert current_thresholds(parse_labeling_config(CONFIG, 100), 0.3) == {"cat": 0.3, "dog": 0.3}


def test_the_service_is_asked_in_parts_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prelabel.projects.ask.time.sleep", lambda _: None)
    refusals = [NotNowError("Busy."), TooManyTasksError("Too large.")]

    def predict(tasks: Sequence[StoredTask]) -> list[Answer]:
        if refusals:
            raise refusals.pop()
        return [{"result": [], "score": task.id, "model_version": VERSION} for task in tasks]

    tasks = [StoredTask(number, {}) for number in range(21)]
    answers = PatientAsker(predict, patience_s=60)(tasks)
    assert [answer["score"] for answer in answers if "error" not in answer] == list(range(21))

    def never(_: Sequence[StoredTask]) -> list[Answer]:
        raise NotNowError("Busy.")

    with pytest.raises(NotNowError):
        PatientAsker(never, patience_s=0)(tasks)
