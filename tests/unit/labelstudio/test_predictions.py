from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from prelabel.detection.suppression import Suppression
from prelabel.errors import ImageFetchError, RequestError
from prelabel.labelstudio.predictions import to_prediction, to_regions, to_task_error
from prelabel.labelstudio.protocol import (
    SetupRequest,
    project_key,
)
from prelabel.labelstudio.result_entries import (
    PromptControls,
    ResultEntry,
    prompt_request_of,
)
from prelabel.types import (
    Detections,
    LookPlan,
    PresentRegion,
    PromptEcho,
    PromptRequest,
    Target,
    Thresholds,
)

ALL = Suppression(iou_threshold=1, class_agnostic=False, max_boxes=100)


def target(label: str | None, min_score: float = 0.0) -> Target:
    return Target("label", "image", label, min_score)


def look(*targets: Target | None, item_index: int | None = None) -> LookPlan:
    phrases = tuple(str(i) for i in range(len(targets)))
    return LookPlan("a.jpg", item_index, phrases, targets, Thresholds(0, 0))


def found(
    *rows: tuple[list[int], float, int], image_wh: tuple[int, int] = (200, 100)
) -> Detections:
    boxes, scores, phrases = zip(*rows, strict=True) if rows else ((), (), ())
    return Detections(
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.array(scores, dtype=np.float32),
        np.array(phrases, dtype=np.int64),
        image_wh,
    )


def test_a_box_becomes_a_region_in_percent_with_its_label() -> None:
    [region] = to_regions(look(target("cat")), found(([20, 10, 100, 60], 0.5, 0)), ALL)
    assert region["value"] == {
        "x": 10,
        "y": 10,
        "width": 40,
        "height": 50,
        "rotation": 0,
        "rectanglelabels": ["cat"],
    }
    assert (region["original_width"], region["original_height"]) == (200, 100)
    assert (region["from_name"], region["to_name"]) == ("label", "image")
    assert (region["type"], region["score"], region["image_rotation"]) == (
        "rectanglelabels",
        0.5,
        0,
    )


def test_nothing_found_gives_an_empty_result() -> None:
    assert to_regions(look(target("cat")), found(), ALL) == []


def test_boxes_of_phrases_without_a_label_are_left_out() -> None:
    box = [0, 0, 10, 10]
    regions = to_regions(look(None, target("cat")), found((box, 0.9, 0), (box, 0.8, 1)), ALL)
    assert [region["value"]["rectanglelabels"] for region in regions] == [["cat"]]


def test_each_label_s_own_minimum_counts() -> None:
    rows = [([0, 0, 10, 10], 0.5, 0), ([20, 20, 30, 30], 0.5, 1)]
    regions = to_regions(look(target("cat", 0.6), target("dog", 0.5)), found(*rows), ALL)
    assert [region["value"]["rectanglelabels"] for region in regions] == [["dog"]]


def test_two_phrases_of_one_label_do_not_box_one_thing_twice() -> None:
    rows = [([0, 0, 10, 10], 0.9, 0), ([0, 0, 10, 10], 0.8, 1)]
    suppression = Suppression(0.5, class_agnostic=False, max_boxes=100)
    assert len(to_regions(look(target("car"), target("car")), found(*rows), suppression)) == 1
    assert len(to_regions(look(target("car"), target("bus")), found(*rows), suppression)) == 2
    agnostic = Suppression(0.5, class_agnostic=True, max_boxes=100)
    assert len(to_regions(look(target("car"), target("bus")), found(*rows), agnostic)) == 1


def test_the_best_boxes_are_kept_where_there_are_too_many() -> None:
    rows = [([0, 0, 10, 10], 0.1, 0), ([20, 0, 30, 10], 0.9, 0), ([40, 0, 50, 10], 0.5, 0)]
    regions = to_regions(look(target("cat")), found(*rows), Suppression(0.5, False, 2))
    assert [round(region["score"], 3) for region in regions] == [0.9, 0.5]


def test_no_region_leaves_the_picture() -> None:
    [region] = to_regions(look(target("cat")), found(([-5, -5, 300, 300], 0.5, 0)), ALL)
    value = region["value"]
    assert (value["x"], value["y"], value["width"], value["height"]) == (0, 0, 100, 100)


def test_boxes_with_nothing_inside_the_picture_or_too_small_are_left_out() -> None:
    rows = [
        ([-20, 0, -10, 10], 0.9, 0),
        ([0, 0, 3, 10], 0.8, 0),
        ([0, 0, 10, 4], 0.7, 0),
        ([195, 0, 205, 10], 0.6, 0),
    ]
    regions = to_regions(look(target("cat")), found(*rows), ALL)
    assert [region["score"] for region in regions] == [0.8, 0.7, 0.6]
    assert regions[-1]["value"]["x"] + regions[-1]["value"]["width"] == 100
    larger = replace(ALL, min_box_px=4)
    regions = to_regions(look(target("cat")), found(*rows), larger)
    assert [region["score"] for region in regions] == [0.7, 0.6]


def test_a_rectangle_tag_beside_labels_gets_the_box_and_these_the_label_under_one_id() -> None:
    where = Target("label", "image", "cat", 0.0, rectangle_name="bbox")
    plan = look(where, item_index=1)
    box, label = to_regions(plan, found(([20, 10, 100, 60], 0.5, 0)), ALL)
    geometry = {"x": 10, "y": 10, "width": 40, "height": 50, "rotation": 0}
    assert (box["from_name"], box["type"], box["value"]) == ("bbox", "rectangle", geometry)
    assert (label["from_name"], label["type"]) == ("label", "labels")
    assert label["value"] == {**geometry, "labels": ["cat"]}
    assert box["id"] == label["id"]
    assert box["item_index"] == label["item_index"] == 1
    assert to_prediction([box, label], "v1")["score"] == 0.5


def test_an_echoed_prompt_is_a_text_of_the_whole_picture() -> None:
    [text] = to_prediction([], "v1", PromptEcho("prompt", "image", "cat . dog"))["result"]
    assert (text["type"], text["from_name"], text["to_name"]) == ("textarea", "prompt", "image")
    assert text["value"] == {"text": ["cat . dog"]}


def test_regions_get_new_ids_every_time() -> None:
    detections = found(([0, 0, 10, 10], 0.5, 0), ([20, 0, 30, 10], 0.5, 0))
    calls = [to_regions(look(target("cat")), detections, ALL) for _ in range(2)]
    assert len({region["id"] for regions in calls for region in regions}) == 4


def test_the_picture_of_a_list_is_named() -> None:
    row = ([0, 0, 10, 10], 0.5, 0)
    [single] = to_regions(look(target("cat")), found(row), ALL)
    [third] = to_regions(look(target("cat"), item_index=2), found(row), ALL)
    assert "item_index" not in single
    assert third["item_index"] == 2


def test_a_prediction_s_score_is_the_mean_and_zero_without_regions() -> None:
    regions = to_regions(
        look(target("cat")), found(([0, 0, 9, 9], 0.5, 0), ([20, 0, 29, 9], 1.0, 0)), ALL
    )
    assert to_prediction(regions, "v1")["score"] == 0.75
    assert to_prediction([], "v1") == {"result": [], "score": 0.0, "model_version": "v1"}


def test_an_error_entry_has_no_result_so_that_the_task_is_asked_again() -> None:
    entry = to_task_error(ImageFetchError("Not there."), "abc")
    assert entry == {"error": "Not there.", "error_type": "ImageFetchError", "request_id": "abc"}


@pytest.mark.parametrize(
    ("project", "key"),
    [("3.1795349150", "3.1795349150"), (3, "3"), (None, None), ("1" * 200, "1" * 100)],
)
def test_a_project_s_key_tells_it_from_that_of_another_label_studio(
    project: int | str | None, key: str | None
) -> None:
    assert project_key(project) == key


def entry(**fields: Any) -> ResultEntry:
    return ResultEntry.model_validate(fields)


def text(*lines: Any, name: str = "prompt") -> ResultEntry:
    return entry(type="textarea", from_name=name, value={"text": list(lines)})


def number(value: bool | float | str, name: str = "box_threshold") -> ResultEntry:
    return entry(type="number", from_name=name, value={"number": value})


@pytest.mark.parametrize(
    ("entries", "asked"),
    [
        ([], PromptRequest()),
        ([text("cats . house")], PromptRequest("cats . house")),
        ([text("dog\n")], PromptRequest("dog")),
        ([text("cat", "dog")], PromptRequest("cat . dog")),
        ([text("cat"), text("dog")], PromptRequest("dog")),
        ([text("a caption", name="caption")], PromptRequest()),
        ([text("")], PromptRequest()),
        ([number(0)], PromptRequest(box_threshold=0.0)),
        ([number(0.4, "text_threshold"), text("cat")], PromptRequest("cat", None, 0.4)),
        ([number(7, "stars")], PromptRequest()),
        ([entry(type="textarea", from_name="prompt", value={"text": "cat"})], PromptRequest("cat")),
    ],
)
def test_prompt_and_thresholds_are_found_by_name(
    entries: list[ResultEntry], asked: PromptRequest
) -> None:
    assert prompt_request_of(entries, PromptControls()) == asked


@pytest.mark.parametrize("value", [30, -0.1, "0.5", True])
def test_a_threshold_that_is_none_is_refused_with_its_name(value: bool | float | str) -> None:
    with pytest.raises(RequestError, match="box_threshold"):
        prompt_request_of([number(value)], PromptControls())


def present(
    label: str | None,
    box_pct: tuple[float, float, float, float],
    to_name: str = "image",
    item_index: None = None,
) -> PresentRegion:
    return PresentRegion(to_name, item_index, label, box_pct)


def test_a_box_without_a_label_says_what_was_looked_for() -> None:
    where = Target("label", "image", None, 0.0)
    [region] = to_regions(look(where), found(([20, 10, 100, 60], 0.5, 0)), ALL)
    assert region["type"] == "rectanglelabels"
    assert "rectanglelabels" not in region["value"]
    assert region["meta"] == {"text": ["0"]}
    where = replace(where, rectangle_name="bbox")
    [region] = to_regions(look(where), found(([20, 10, 100, 60], 0.5, 0)), ALL)
    assert (region["from_name"], region["type"]) == ("bbox", "rectangle")


def test_phrases_without_a_label_do_not_box_one_thing_twice() -> None:
    rows = [([0, 0, 10, 10], 0.9, 0), ([0, 0, 10, 10], 0.8, 1)]
    where = Target("label", "image", None, 0.0)
    half = Suppression(0.5, class_agnostic=False, max_boxes=100)
    assert len(to_regions(look(where, where), found(*rows), half)) == 1


@pytest.mark.parametrize(
    ("region", "left"),
    [
        (present("cat", (0, 0, 10, 20)), ["dog"]),
        (present("cat", (0, 0, 9, 18)), ["dog"]),
        (present("cat", (0, 0, 5, 10)), ["cat", "dog"]),
        (present("dog", (0, 0, 10, 20)), ["cat", "dog"]),
        (present(None, (0, 0, 10, 20)), ["cat", "dog"]),
    ],
)
def test_what_the_annotation_has_is_not_suggested_again(
    region: PresentRegion, left: list[str]
) -> None:
    plan = replace(look(target("cat"), target("dog")), present=(region,))
    rows = [([0, 0, 20, 20], 0.9, 0), ([100, 50, 120, 70], 0.8, 1)]
    regions = to_regions(plan, found(*rows), Suppression(0.5, False, 100))
    assert [region["value"]["rectanglelabels"][0] for region in regions] == left


@pytest.mark.parametrize("label", ["cat", "house", None])
def test_a_box_without_a_label_is_not_suggested_over_any_region(label: str | None) -> None:
    plan = replace(look(target(None)), present=(present(label, (0, 0, 10, 20)),))
    assert to_regions(plan, found(([0, 0, 20, 20], 0.9, 0)), Suppression(0.5, False, 9)) == []


def test_a_second_box_of_a_thing_that_the_annotation_has_is_not_suggested_either() -> None:
    plan = replace(look(target("cat")), present=(present("cat", (0, 0, 10, 20)),))
    rows = [([0, 0, 20, 16], 0.9, 0), ([0, 0, 20, 10], 0.8, 0), ([50, 50, 60, 60], 0.7, 0)]
    [region] = to_regions(plan, found(*rows), Suppression(0.6, False, 1))
    assert region["value"]["x"] == 25


@pytest.mark.parametrize(
    ("extra", "asked"),
    [
        (None, PromptRequest()),
        ({}, PromptRequest()),
        ({"prompt": "cat . dog"}, PromptRequest("cat . dog")),
        ({"prompt": ["cat", "dog"], "box_threshold": 0}, PromptRequest("cat . dog", 0.0)),
        ('{"prompt": "cat", "text_threshold": 0.5}', PromptRequest("cat", None, 0.5)),
        ({"prompt": " "}, PromptRequest()),
        ({"temperature": 3}, PromptRequest()),
        ({"Prompt": "cat", "box_threshold": "0.4"}, PromptRequest("cat", 0.4)),
        ("", PromptRequest()),
        ([1], PromptRequest()),
    ],
)
def test_the_extra_parameters_of_a_project_s_model_are_read(
    extra: Any, asked: PromptRequest
) -> None:
    assert SetupRequest(extra_params=extra).prompt_request == asked


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ({"prompt": 5}, "prompt"),
        ({"box_threshold": 35}, "box_threshold"),
        ({"box_threshold": "high"}, "box_threshold"),
        ("{'prompt': 'cat'}", "not a JSON object"),
        ("[" * 100_000, "not a JSON object"),
    ],
)
def test_a_wrong_extra_parameter_is_named(extra: dict[str, Any] | str, named: str) -> None:
    with pytest.raises(RequestError, match=named):
        _ = SetupRequest(extra_params=extra).prompt_request
