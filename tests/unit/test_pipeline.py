import asyncio
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from prelabel.detection.suppression import Suppression
from prelabel.errors import ImageFetchError, PayloadTooLargeError, PromptMemoryError
from prelabel.labelstudio.prediction_builder import PredictionBuilder
from prelabel.labelstudio.protocol import PredictRequest
from prelabel.observability.journal import Report
from prelabel.observability.request_context import (
    RequestIdFilter,
    current_request_id,
    request_id_scope,
)
from prelabel.pipeline import PipelinePorts, Predictor, failure_report, prediction_report
from prelabel.settings import AppSettings, MaskSettings
from prelabel.types import (
    DetectionQuery,
    Detections,
    MaskLogits,
    ProjectPrompts,
    PromptRequest,
    SegmentationQuery,
    TaskPlan,
)

CONFIG = """<View><TextArea name="prompt" toName="image"/><Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image"><Label value="cat"/></RectangleLabels></View>"""


def request(
    images: list[Any],
    context: dict[str, Any] | None = None,
    project: int | str | None = None,
    config: str = CONFIG,
    **params: Any,
) -> PredictRequest:
    return PredictRequest.model_validate(
        {
            "project": project,
            "tasks": [{"id": i, "data": {"image": image}} for i, image in enumerate(images)],
            "label_config": config,
            "params": {"context": context, **params},
        }
    )


MASK = MaskLogits(
    np.ones((2, 2), np.float16), (0, 0), (100, 2), (0, 0, 1000, 10), None, quality=0.7
)


class World:
    """Pictures that know how long they take; a detector that finds one box per picture."""

    def __init__(self) -> None:
        self.running = self.most_running = self.looked = self.recalled = 0
        self.queries: list[DetectionQuery] = []
        self.segmented: list[SegmentationQuery] = []
        self.detected_for: list[str] = []
        self.reports: list[Report] = []
        self.store_answers = asyncio.Event()

    async def recall(self, project: str) -> ProjectPrompts:
        self.recalled += 1
        if project == "9":
            raise PromptMemoryError("Set prompts.file.")
        if project == "8":
            await self.store_answers.wait()
        return ProjectPrompts(PromptRequest("cat") if project == "7" else PromptRequest())

    async def fetch(self, uri: str, task_id: Any) -> bytes:
        if uri == "missing":
            raise ImageFetchError("The picture is not there.")
        if uri == "broken":
            raise ZeroDivisionError("secret detail")
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(float(uri))
        finally:
            self.running -= 1
        return uri.encode()

    async def detect(self, query: DetectionQuery) -> Detections:
        self.looked += 1
        self.queries.append(query)
        self.detected_for.append(current_request_id())
        width = float(query.image) * 1000
        return Detections(
            np.array([[0, 0, width, 10]], dtype=np.float32),
            np.array([0.9], dtype=np.float32),
            np.array([0]),
            (1000, 10),
            None if query.look is None else (MASK,),
        )

    async def segment(self, query: SegmentationQuery) -> Detections:
        self.segmented.append(query)
        count = len(query.prompts_pct)
        return Detections(
            np.zeros((count, 4), np.float32),
            np.full(count, 0.8, np.float32),
            np.arange(count),
            (1000, 10),
            tuple(MASK for _ in range(count)),
        )

    async def postprocess(self, plan: TaskPlan, found: Any) -> Any:
        return PredictionBuilder(Suppression(0.5, False, 10), MaskSettings(), "v1").build(
            plan, found
        )


def predict(body: PredictRequest, **settings: Any) -> tuple[Any, World]:
    world = World()
    note = world.reports.append
    steps = PipelinePorts(
        world.recall, world.fetch, world.detect, world.segment, world.postprocess, note
    )
    predictor = Predictor(AppSettings(**settings), "v1", steps)
    with request_id_scope("request-1"):
        return asyncio.run(predictor.predict(body)), world


def widths(entries: list[dict[str, Any]]) -> list[Any]:
    return [round(e["result"][0]["value"]["width"]) if "result" in e else None for e in entries]


def test_entries_keep_the_tasks_order_whatever_finishes_first() -> None:
    entries, _ = predict(request(["0.05", "0.01", "0.03"]))
    assert widths(entries) == [5, 1, 3]


def test_tasks_are_worked_on_concurrently_within_the_limit() -> None:
    entries, world = predict(request(["0.02"] * 10), limits={"task_concurrency": 4})
    assert len(entries) == 10
    assert world.most_running == 4


def test_a_request_of_one_task_does_not_wait_for_bulk_requests_and_these_share() -> None:
    world = World()
    steps = PipelinePorts(world.recall, world.fetch, world.detect, world.segment, world.postprocess)
    predictor = Predictor(AppSettings(limits={"task_concurrency": 2}), "v1", steps)
    finished = []

    async def predict_as(name: str, images: list[str]) -> None:
        await predictor.predict(request(images))
        finished.append(name)

    async def run() -> None:
        large = asyncio.create_task(predict_as("large", ["0.02"] * 40))
        await asyncio.sleep(0.05)
        small = asyncio.create_task(predict_as("small", ["0.02"] * 2))
        alone = asyncio.create_task(predict_as("alone", ["0.001"]))
        await asyncio.gather(large, small, alone)

    asyncio.run(run())
    assert finished == ["alone", "small", "large"]
    assert world.most_running == 3
    assert [query.urgent for query in world.queries].count(True) == 1


def test_a_failed_task_does_not_affect_the_other_tasks() -> None:
    entries, _ = predict(request(["0.01", "missing", "0.02"]))
    assert widths(entries) == [1, None, 2]
    assert entries[1] == {
        "error": "The picture is not there.",
        "error_type": "ImageFetchError",
        "request_id": "request-1",
    }


def test_a_defect_of_ours_is_an_entry_too_and_tells_no_detail() -> None:
    entries, _ = predict(request(["broken", "0.01"]))
    assert widths(entries) == [None, 1]
    assert "secret" not in str(entries[0])
    assert entries[0]["request_id"] == "request-1"


def test_what_is_late_is_an_error_that_can_be_asked_again() -> None:
    entries, _ = predict(request(["0.01", "5"]), limits={"request_deadline_s": 0.2})
    assert widths(entries) == [1, None]
    assert entries[1]["error_type"] == "DeadlineError"
    assert "result" not in entries[1]


def test_a_prompt_for_all_tasks_of_a_bulk_request() -> None:
    config = CONFIG.replace("<Label", '<Label value="dog"/><Label')
    body = request(["0.01"] * 3, project=7, config=config, prompt="dog", box_threshold=0)
    entries, world = predict(body)
    assert ["error" in entry for entry in entries] == [False] * 3
    assert {query.phrases for query in world.queries} == {("dog",)}
    assert {query.thresholds.box for query in world.queries} == {0}
    assert not any(query.urgent for query in world.queries)


@pytest.mark.parametrize("name", ["box_threshold", "text_threshold"])
@pytest.mark.parametrize("value", [-0.1, 1.1, "high"])
def test_thresholds_for_all_tasks_are_numbers_from_0_to_1(name: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=name):
        request([], **{name: value})


def test_an_empty_context_is_answered_at_once_with_empty_results() -> None:
    entries, world = predict(request(["0.01", "missing"], context={"result": []}))
    assert entries == [{"result": [], "score": 0.0, "model_version": "v1"}] * 2
    assert world.looked == 0


def test_no_tasks_give_no_entries() -> None:
    assert predict(request([]))[0] == []


def test_pictures_of_one_task_take_turns_too() -> None:
    config = CONFIG.replace('value="$image"', 'valueList="$image"')
    entries, world = predict(
        request([["0.01"] * 12], config=config), limits={"task_concurrency": 3}
    )
    assert [region["item_index"] for region in entries[0]["result"]] == list(range(12))
    assert world.most_running == 3


def test_one_missing_picture_of_a_task_stops_the_others() -> None:
    config = CONFIG.replace('value="$image"', 'valueList="$image"')
    entries, world = predict(request([["missing", "5", "5"], ["0.01"]], config=config))
    assert widths(entries) == [None, 1]
    assert world.running == 0


def test_without_the_memory_the_config_s_labels_are_looked_for_and_the_journal_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    entries, world = predict(request(["0.01", "0.01"], project=9))
    assert widths(entries) == [1, 1]
    assert [query.phrases for query in world.queries] == [("cat",)] * 2
    [report] = world.reports
    assert report.counts == {"errors.PromptMemoryError": 1}
    [fault] = report.faults
    assert (fault.request_id, fault.project, fault.task) == ("request-1", "9", None)
    assert (fault.error_type, fault.error) == ("PromptMemoryError", "Set prompts.file.")
    [line] = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert "Set prompts.file." in line


def typed(*entries: tuple[str, str, dict[str, Any]]) -> dict[str, Any]:
    return {"result": [{"from_name": n, "type": kind, "value": v} for n, kind, v in entries]}


PROMPT = ("prompt", "textarea", {"text": ["cat"]})
NUMBER = '<Number name="{}" toName="image" min="0" max="1"/>'
ASKED = ("box_threshold", "text_threshold")
NUMBERS = [NUMBER.format(name) for name in ASKED]


@pytest.mark.parametrize(
    ("numbers", "entries"),
    [
        ([], [PROMPT]),
        (NUMBERS, [PROMPT, *((n, "number", {"number": 0}) for n in ASKED)]),
    ],
)
def test_a_typed_prompt_does_not_wait_for_the_store(
    numbers: list[str], entries: list[tuple[str, str, dict[str, Any]]]
) -> None:
    config = CONFIG.replace("<Image", "".join(numbers) + "<Image")
    body = request(["0.01"], context=typed(*entries), project=8, config=config)
    answered, world = predict(body)  # the store never answers
    assert widths(answered) == [1]
    assert world.recalled == 1, "the store still learns of the project"


@pytest.mark.parametrize(
    ("numbers", "entries"), [(NUMBERS, [PROMPT]), ([], [("other", "textarea", {"text": ["cat"]})])]
)
def test_what_was_left_open_is_waited_for(
    numbers: list[str], entries: list[tuple[str, str, dict[str, Any]]]
) -> None:
    config = CONFIG.replace("<Image", "".join(numbers) + "<Image")
    body = request(["0.01"], context=typed(*entries), project=8, config=config)
    answered, _ = predict(body, limits={"request_deadline_s": 0.2})
    assert [entry["error_type"] for entry in answered] == ["DeadlineError"]


def test_more_tasks_than_allowed_are_refused_as_a_whole() -> None:
    with pytest.raises(PayloadTooLargeError, match=r"raise limits\.max_tasks"):
        predict(request(["0.01"] * 3), limits={"max_tasks": 2})


def test_an_unusable_config_is_an_error_for_each_task() -> None:
    entries, _ = predict(request(["0.01", "0.01"], config="<View/>"))
    assert [entry["error_type"] for entry in entries] == ["LabelingConfigError"] * 2


def test_an_invalid_task_does_not_affect_the_other_tasks() -> None:
    body = PredictRequest.model_validate(
        {
            "tasks": [
                {"id": 1, "data": {"image": "0.01"}},
                {"id": 2, "data": None},
                "task",
                {"id": "abc", "data": {"image": "0.02"}},
                {"id": 5},
            ],
            "label_config": CONFIG,
        }
    )
    entries, _ = predict(body)
    assert widths(entries) == [1, None, None, 2, None]
    assert [entries[i]["error_type"] for i in (1, 2, 4)] == ["RequestError"] * 3
    assert "data: " in entries[1]["error"]


def test_labels_that_tasks_bring_along_are_each_task_s_own() -> None:
    config = CONFIG.replace('toName="image"><Label value="cat"/>', 'toName="image" value="$l">')
    body = PredictRequest.model_validate(
        {
            "tasks": [
                {"id": 1, "data": {"image": "0.01", "l": [{"value": "dog"}]}},
                {"id": 2, "data": {"image": "0.01", "l": [{"value": "gnu"}]}},
                {"id": 3, "data": {"image": "0.01"}},
            ],
            "label_config": config,
        }
    )
    entries, _ = predict(body)
    labels = [e["result"][0]["value"]["rectanglelabels"] for e in entries if "result" in e]
    assert labels == [["dog"], ["gnu"]]
    assert "Import it with a list there" in entries[2]["error"]


def test_the_journal_learns_of_each_failed_task_and_of_the_counts() -> None:
    body = request(["0.001", "missing", "missing"], project="7.5")
    entries, _ = predict(body)
    with request_id_scope("request-1"):
        report = prediction_report(body, entries, 0.25)
    assert report.counts == {
        "requests": 1,
        "tasks": 3,
        "tasks_failed": 2,
        "errors.ImageFetchError": 2,
        "regions": 1,
    }
    assert [(f.request_id, f.project, f.task) for f in report.faults] == [
        ("request-1", "7.5", 1),
        ("request-1", "7.5", 2),
    ]
    assert report.faults[0].error == "The picture is not there."
    assert (report.seconds, report.interactive) == (0.25, False)


def test_one_request_of_many_failures_does_not_fill_the_journal() -> None:
    body = request(["missing"] * 150)
    report = prediction_report(body, predict(body)[0], 1.0)
    assert report.counts["tasks_failed"] == 150
    assert len(report.faults) == 100


def test_the_journal_learns_of_requests_that_fail_as_a_whole() -> None:
    with request_id_scope("request-2"):
        report = failure_report(PayloadTooLargeError("Select fewer."))
    assert report.counts == {"requests_failed": 1, "errors.PayloadTooLargeError": 1}
    [fault] = report.faults
    assert (fault.request_id, fault.task, fault.error) == ("request-2", None, "Select fewer.")


def test_log_lines_and_detections_are_in_the_request_s_context(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.handler.addFilter(request_ids := RequestIdFilter())
    try:
        _, world = predict(request(["0.001", "missing"]))
    finally:
        caplog.handler.removeFilter(request_ids)
    assert world.detected_for == ["request-1"]
    [line] = [record for record in caplog.records if "not there" in record.message]
    assert vars(line)["request_id"] == "request-1"


def test_the_journal_learns_once_a_request_of_labels_that_the_model_cannot_read(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = CONFIG.replace("</RectangleLabels>", '<Label value="猫"/></RectangleLabels>')
    entries, world = predict(request(["0.001"] * 3, project="7.1", config=config))
    assert all("result" in entry for entry in entries)
    [report] = world.reports
    assert report.counts == {"errors.PromptError": 1}
    assert "no word of '猫'" in report.faults[0].error
    assert (report.faults[0].project, report.faults[0].request_id) == ("7.1", "request-1")
    assert "no word of '猫'" in caplog.text


def test_labels_that_the_model_cannot_read_are_an_error_where_there_is_nothing_else() -> None:
    config = CONFIG.replace('value="cat"', 'value="猫"').replace('value="dog"', 'value="犬"')
    entries, _ = predict(request(["0.001"], config=config))
    assert entries[0]["error_type"] == "PromptError"
    assert 'predicted_values="cat"' in entries[0]["error"]


WITH_MASKS = CONFIG.replace(
    "</View>",
    '<BrushLabels name="mask" toName="image"><Label value="cat"/></BrushLabels>'
    '<KeyPointLabels name="kp" toName="image" smart="true"><Label value="cat"/></KeyPointLabels>'
    "</View>",
)
CLICK = {
    "type": "keypointlabels",
    "to_name": "image",
    "value": {"x": 1, "y": 50, "keypointlabels": ["cat"]},
}


def kinds(entry: dict[str, Any]) -> list[str]:
    return [region["type"] for region in entry["result"]]


def test_a_config_with_masks_gets_them_and_the_detector_the_plan_without_the_address() -> None:
    [entry], world = predict(request(["0.01"], config=WITH_MASKS))
    assert kinds(entry) == ["rectanglelabels", "brushlabels"]
    [query] = world.queries
    assert query.look is not None
    assert query.look.uri == ""
    [without], world = predict(request(["0.01"]))
    assert kinds(without) == ["rectanglelabels"]
    assert world.queries[0].look is None


def test_a_click_is_segmented_and_nothing_is_searched_for() -> None:
    [entry], world = predict(request(["0.01"], {"result": [CLICK]}, config=WITH_MASKS))
    assert kinds(entry) == ["rectanglelabels", "brushlabels"]
    assert world.queries == []
    [query] = world.segmented
    assert query.urgent
    assert query.prompts_pct[0].points_xy == ((1.0, 50.0),)


def test_without_a_segmenter_boxes_are_answered_and_the_missing_masks_are_said_once() -> None:
    entries, world = predict(request(["0.01"] * 3, config=WITH_MASKS), model={"segmenter": ""})
    assert [kinds(entry) for entry in entries] == [["rectanglelabels"]] * 3
    assert all("no segmenter" in entry["notes"][0] for entry in entries)
    said = [fault.error for report in world.reports for fault in report.faults]
    assert len([sentence for sentence in said if "no segmenter" in sentence]) == 1
    click = request(["0.01"], {"result": [CLICK]}, config=WITH_MASKS)
    [refused], _ = predict(click, model={"segmenter": ""})
    assert refused["error"].startswith("The service draws no masks, because it has no segmenter.")


def test_an_answer_that_is_large_enough_leaves_the_other_tasks_for_the_next_request() -> None:
    limits = {"max_answer_bytes": 100, "task_concurrency": 1}
    entries, world = predict(request(["0.01"] * 20, config=WITH_MASKS), limits=limits)
    done = [entry for entry in entries if "result" in entry]
    assert 1 <= len(done) < 20
    assert world.looked == len(done)
    left = [entry for entry in entries if "error" in entry]
    assert {entry["error_type"] for entry in left} == {"PayloadTooLargeError"}
    assert "Retrieve predictions again for the tasks that are left" in left[0]["error"]
