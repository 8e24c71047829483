"""Typed prompts on the running service: labels, boxes without a label, and ignored phrases."""

import itertools
from typing import Any

import pytest
from label_studio_sdk.label_interface.interface import LabelInterface

from tests.support.result_entries import number, typed
from tests.support.scenes import SCENE, fresh
from tests.support.service_client import CONFIG, Service

PROJECTS = (f"{number}.99" for number in itertools.count(9900))


def config(*labels: Any, attributes: str = "") -> str:
    tags = "".join(f'<Label value="{label}"/>' for label in labels)
    return (
        '<View><TextArea name="prompt" toName="image"/><Image name="image" value="$image"/>'
        f'<RectangleLabels name="label" toName="image" {attributes}>{tags}</RectangleLabels></View>'
    )


def labels_of(entry: dict[str, Any]) -> list[Any]:
    """The label of each box; None for one without."""
    boxes = [region for region in entry["result"] if region["type"] == "rectanglelabels"]
    return sorted((box["value"].get("rectanglelabels", [None])[0] for box in boxes), key=str)


@pytest.mark.parametrize(
    ("labels", "prompt", "found"),
    [
        (("red_circle", "blue_square"), "red circle . blue square", ["blue_square", "red_circle"]),
        (("RedCircle", "BlueSquare"), None, ["BlueSquare", "RedCircle"]),
        (("redcircle", "blue-square"), None, ["blue-square", "redcircle"]),
        (("red circles", "cat"), "a red circle and cats", ["red circles"]),
        (("circle", "square"), "circle: red circle . -blue square", ["circle"]),
        (("red circle", "cat"), "red circle . blue square", [None, "red circle"]),
        (("cat", "dog"), "blue squares", [None]),
        (("Shape",), "red circle . blue square", ["Shape", "Shape"]),
        (("red circle", "blue square"), "not: blue square", ["red circle"]),
    ],
)
def test_what_is_typed_gets_its_boxes(
    service: Service, labels: tuple[Any, ...], prompt: str | None, found: list[Any]
) -> None:
    context = None if prompt is None else [typed(prompt)]
    [entry] = service.predict(SCENE, context=context, config=config(*labels))
    assert labels_of(entry) == found


def test_the_answer_says_how_each_phrase_found_its_label(service: Service) -> None:
    [entry] = service.predict(SCENE, context=[typed("red circles . blue square . zebra")])
    assert [(m["phrase"], m["label"], m["step"]) for m in entry["matches"]] == [
        ("red circles", "red circle", "singular and plural"),
        ("blue square", "blue square", "as spelled"),
        ("zebra", None, "no label"),
    ]


def test_a_box_without_a_label_is_for_annotators_and_never_in_bulk(service: Service) -> None:
    project, phrases = next(PROJECTS), "red circle . blue square"
    labels = config("red circle", "cat")
    [typed_now] = service.predict(SCENE, context=[typed(phrases)], config=labels)
    [grey] = [r for r in typed_now["result"] if "rectanglelabels" not in r["value"]]
    assert grey["meta"] == {"text": ["blue square"]}
    setup = {"project": project, "schema": labels, "extra_params": {"prompt": phrases}}
    assert service.post("/setup", setup).status_code == 200
    for entry in service.predict(*fresh(3), project=project, config=labels):
        assert labels_of(entry) == ["red circle"]
        assert LabelInterface(labels).validate_prediction(entry, return_errors=True) == []  # type: ignore[no-untyped-call]


def test_a_project_s_prompt_stands_in_the_extra_parameters_of_its_model(service: Service) -> None:
    project = next(PROJECTS)
    setup = {"project": project, "schema": CONFIG, "extra_params": {"prompt": "blue square"}}
    assert service.post("/setup", setup).status_code == 200
    [entry] = service.predict(SCENE, project=project)
    assert labels_of(entry) == ["blue square"]
    [entry] = service.predict(SCENE, project=project, context=[typed("red circle")])
    assert labels_of(entry) == ["red circle"]
    assert service.post("/setup", setup | {"extra_params": None}).status_code == 200
    [entry] = service.predict(SCENE, project=project)
    assert labels_of(entry) == ["blue square", "red circle"]


def test_a_wrong_extra_parameter_is_refused_when_the_model_is_connected(service: Service) -> None:
    setup = {"project": next(PROJECTS), "extra_params": {"prompt": 5}}
    answer = service.post("/setup", setup)
    assert answer.status_code == 422
    assert "prompt in the extra parameters is 5" in answer.json()["error"]


def region(label: str, box: tuple[float, ...], name: str = "label") -> dict[str, Any]:
    x, y, width, height = (100 * a / b for a, b in zip(box, (640, 480, 640, 480), strict=True))
    value: dict[str, Any] = {"x": x, "y": y, "width": width, "height": height, "rotation": 0}
    value |= {"rectanglelabels": [label]} if label else {}
    sizes = {"original_width": 640, "original_height": 480, "image_rotation": 0}
    entry = {"from_name": name, "to_name": "image", "type": "rectanglelabels", "id": "have"}
    return entry | sizes | {"value": value, "origin": "prediction"}


CIRCLE = (60, 60, 160, 160)


def test_what_the_annotation_has_is_not_suggested_again(service: Service) -> None:
    extended = [region("red circle", CIRCLE), typed("red circle . blue square")]
    [entry] = service.predict(SCENE, context=extended)
    assert labels_of(entry) == ["blue square"]
    other = [region("cat", CIRCLE), typed("red circle . blue square")]
    [entry] = service.predict(SCENE, context=other)
    assert labels_of(entry) == ["blue square", "red circle"]


def test_a_smart_box_brings_no_second_one_of_what_it_was_drawn_around(service: Service) -> None:
    smart = config("red circle", "blue square", attributes='smart="true"')
    [entry] = service.predict(SCENE, context=[region("red circle", CIRCLE)], config=smart)
    assert labels_of(entry) == ["blue square"]


def test_labels_that_the_model_cannot_read_are_named_and_the_others_are_detected(
    service: Service,
) -> None:
    project = next(PROJECTS)
    some = config("red circle", "猫")
    assert service.post("/setup", {"project": project, "schema": some}).status_code == 200
    [entry] = service.predict(SCENE, project=project, config=some)
    assert labels_of(entry) == ["red circle"]
    [fault] = service.get(f"/errors?project={project}").json()["errors"]
    assert fault["error_type"] == "PromptError"
    assert "no word of '猫'" in fault["error"]
    [entry] = service.predict(SCENE, config=config("猫", "狗", "ดาวแดง"))
    assert 'predicted_values="cat"' in entry["error"]


def test_negatives_keep_their_objects_from_being_taken_for_a_label(service: Service) -> None:
    """At low thresholds, the demo model takes the red circle for a red square, too."""
    plain = config("red square")
    low = [number(0.1), number(0.08, "text_threshold")]
    [both] = service.predict(SCENE, context=[*low, typed("red square")], config=plain)
    assert labels_of(both) == ["red square"] * 2
    helped = plain.replace('value="red square"', 'value="red square" negative_values="red circle"')
    [entry] = service.predict(SCENE, context=[*low, typed("red square")], config=helped)
    assert labels_of(entry) == ["red square"]
    [entry] = service.predict(
        SCENE, context=[*low, typed("red square . -red circle")], config=plain
    )
    assert labels_of(entry) == ["red square"]


def test_a_prompt_for_all_tasks_of_a_request_gives_labelled_boxes_only(service: Service) -> None:
    labels = config("red_circle", "cat")
    body = {
        "tasks": [{"id": i, "data": {"image": SCENE}} for i in range(3)],
        "label_config": labels,
        "params": {"context": None, "prompt": "red circle . blue square", "box_threshold": 0.3},
    }
    for entry in service.post("/predict", body).json()["results"]:
        assert labels_of(entry) == ["red_circle"]
        [echo] = [region for region in entry["result"] if region["type"] == "textarea"]
        assert echo["value"] == {"text": ["red circle . blue square"]}
        assert LabelInterface(labels).validate_prediction(entry, return_errors=True) == []  # type: ignore[no-untyped-call]
    body["params"] = {"prompt": "zebra"}
    for entry in service.post("/predict", body).json()["results"]:
        assert entry["error_type"] == "PromptError"
        assert "'zebra' is not a label" in entry["error"]
