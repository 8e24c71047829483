"""Clicks and boxes of smart tools, as Label Studio's page sends them -> objects to segment."""

import json
from typing import Any

import pytest

from prelabel.errors import PromptError, RequestError
from prelabel.labelstudio.labeling_config import parse_labeling_config
from prelabel.labelstudio.protocol import Context, Task
from prelabel.prompts.planner import plan_task
from prelabel.prompts.sources import PromptSources
from prelabel.settings import AppSettings
from prelabel.types import LookPlan, MaskPrompt, ProjectPrompts, Target
from tests.support.paths import ROOT
from tests.support.result_entries import typed

CONFIG = """<View><Image name="image" value="$image"/>
<TextArea name="prompt" toName="image"/>
<KeyPointLabels name="kp" toName="image" smart="true">
<Label value="cat"/><Label value="house"/></KeyPointLabels>
<BrushLabels name="brush" toName="image"><Label value="cat"/></BrushLabels>
<RectangleLabels name="box" toName="image" smart="true">
<Label value="cat"/><Label value="house"/></RectangleLabels>
<PolygonLabels name="outline" toName="image"><Label value="house"/></PolygonLabels></View>"""
BOXES = """<View><Image name="image" value="$image"/><TextArea name="prompt" toName="image"/>
<RectangleLabels name="box" toName="image" smart="true"><Label value="house"/></RectangleLabels>
</View>"""


def recorded(name: str) -> list[dict[str, Any]]:
    """Return the contexts of a growing number of clicks, as the page sent them."""
    contexts = ROOT / "tests" / "captures" / "contexts"
    recording: list[dict[str, Any]] = json.loads((contexts / f"{name}.json").read_text())
    return recording


def looks(
    entries: list[dict[str, Any]],
    config: str = CONFIG,
    data: dict[str, Any] | None = None,
    drafts: list[dict[str, Any]] | None = None,
) -> tuple[LookPlan, ...]:
    parsed = parse_labeling_config(config, 100)
    task = Task.model_validate(
        {"data": data or {"image": "a.jpg"}, "drafts": [{"result": drafts or []}]}
    )
    context = Context.model_validate({"result": entries})
    sources = PromptSources.of(task, context, ProjectPrompts(), parsed)
    return plan_task(task, parsed, sources, AppSettings()).looks


def click(x: float, y: float, label: str | None = "cat", **entry: Any) -> dict[str, Any]:
    value = {"x": x, "y": y, "width": 0.2} | ({"keypointlabels": [label]} if label else {})
    return {"type": "keypointlabels", "to_name": "image", "from_name": "kp", "value": value} | entry


def box(x: float, y: float, label: str = "house", **entry: Any) -> dict[str, Any]:
    value = {"x": x, "y": y, "width": 10, "height": 20, "rotation": 0, "rectanglelabels": [label]}
    base = {"type": "rectanglelabels", "to_name": "image", "from_name": "box", "value": value}
    return base | entry


def drawn(target: Target) -> tuple[str | None, dict[str, str]]:
    return target.from_name if target.draws_box else None, {
        mask.shape: mask.from_name for mask in target.masks
    }


@pytest.mark.parametrize(
    ("number", "inside"), [(0, (True,)), (1, (True, True)), (2, (True, True, False))]
)
def test_the_recorded_clicks_are_one_object_which_later_clicks_refine(
    number: int, inside: tuple[bool, ...]
) -> None:
    entries = recorded("smart_keypoints")[number]["result"]
    [look] = looks(entries)
    [each] = look.objects
    assert each.prompt_pct.points_inside == inside
    assert each.prompt_pct.points_xy[0] == pytest.approx((79.139, 33.302), abs=1e-3)
    assert each.prompt_pct.box_xyxy is None
    assert each.target.label == "cat"
    assert drawn(each.target) == ("box", {"brush": "brush"})
    assert not look.phrases


@pytest.mark.parametrize("number", [0, 1])
def test_each_recorded_rectangle_is_an_object(number: int) -> None:
    entries = recorded("smart_rectangles")[number]["result"]
    [look] = looks(entries)
    assert len(look.objects) == number + 1
    boxes = [each.prompt_pct.box_xyxy for each in look.objects]
    assert boxes[0] == pytest.approx((12.535, 61.116, 29.186, 77.830), abs=1e-3)
    assert {drawn(each.target) == ("box", {"polygon": "outline"}) for each in look.objects}


def test_clicks_of_two_labels_are_two_objects() -> None:
    [look] = looks([click(10, 10), click(50, 50, "house"), click(12, 10)])
    assert [each.prompt_pct for each in look.objects] == [
        MaskPrompt(None, ((10.0, 10.0), (12.0, 10.0)), (True, True)),
        MaskPrompt(None, ((50.0, 50.0),), (True,)),
    ]


def test_a_box_belongs_to_the_prompt_if_no_tag_draws_masks_of_its_label() -> None:
    [look] = looks([box(10, 10)], BOXES, drafts=[typed("house")])
    assert not look.objects
    assert look.phrases == ("house",)


def test_a_box_is_segmented_even_if_a_draft_has_a_prompt() -> None:
    [look] = looks([box(10, 10)], drafts=[typed("cat")])
    assert len(look.objects) == 1


def test_a_typed_prompt_is_searched_for_whatever_is_drawn() -> None:
    [look] = looks([box(10, 10), typed("cat")])
    assert look.phrases == ("cat",)


def test_a_click_without_masks_in_the_config_gives_the_box_of_the_object() -> None:
    config = BOXES.replace(
        "<RectangleLabels", '<KeyPointLabels name="kp" toName="image"/><RectangleLabels'
    )
    [look] = looks([click(10, 10, "house")], config)
    assert drawn(look.objects[0].target) == ("box", {})


def test_a_click_without_a_label_gets_an_unlabelled_region_of_the_first_tag() -> None:
    [look] = looks([click(10, 10, None)])
    target = look.objects[0].target
    assert (target.label, drawn(target)) == (None, ("box", {}))


def test_key_points_that_labels_label() -> None:
    config = """<View><Image name="image" value="$image"/><KeyPoint name="k" toName="image"/>
    <Brush name="b" toName="image"/>
    <Labels name="l" toName="image"><Label value="cat"/></Labels></View>"""
    value = {"x": 1, "y": 2, "width": 0.2}
    point = {"id": "p", "type": "keypoint", "to_name": "image", "from_name": "k", "value": value}
    label = point | {"type": "labels", "from_name": "l", "value": {**value, "labels": ["cat"]}}
    [look] = looks([point, label], config)
    [each] = look.objects
    assert each.prompt_pct.points_xy == ((1.0, 2.0),)
    assert [(m.from_name, m.shape_name, m.label) for m in each.target.masks] == [("l", "b", "cat")]


def test_the_picture_of_a_list_that_was_clicked() -> None:
    config = CONFIG.replace('value="$image"', 'valueList="$pages"')
    data = {"pages": ["a.jpg", "b.jpg"]}
    [look] = looks([click(1, 1, item_index=1)], config, data)
    assert (look.uri, look.item_index) == ("b.jpg", 1)
    with pytest.raises(RequestError, match="picture 3 of 'image', of which the task has 2"):
        looks([click(1, 1, item_index=2)], config, data)


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ([click(1, 1, is_positive=False)], "All clicks are beside the object. Click on it first"),
        ([click(1, 1, "dog")], "The selected label 'dog' is in no control tag"),
        ([click(i % 100, 1) for i in range(101)], "more than 100 clicks"),
        ([box(1, 1) for _ in range(201)], "201 objects are marked, and 200 can be segmented"),
    ],
)
def test_what_cannot_be_segmented_says_what_to_do(
    entries: list[dict[str, Any]], sentence: str
) -> None:
    with pytest.raises(PromptError, match=sentence):
        looks(entries)


@pytest.mark.parametrize("value", [{}, {"x": "a", "y": 1}, {"x": float("nan"), "y": 1}, {"x": 101}])
def test_points_that_are_no_points_are_ignored(value: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        looks([click(0, 0) | {"value": value}], CONFIG.replace('value="$image"', 'value="$x"'))
