"""A table of labeling configs, with their phrases; all regions are valid for Label Studio."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from prelabel.detection.suppression import Suppression
from prelabel.errors import RequestError
from prelabel.labelstudio.import_check import ImportCheck
from prelabel.labelstudio.labeling_config import parse_labeling_config
from prelabel.labelstudio.mask_regions import MaskPen
from prelabel.labelstudio.predictions import to_prediction, to_regions
from prelabel.labelstudio.protocol import Context, Task
from prelabel.prompts.planner import plan_task
from prelabel.prompts.sources import PromptSources
from prelabel.settings import AppSettings, MaskSettings
from prelabel.types import Detections, LookPlan, MaskLogits, ProjectPrompts, TaskPlan
from tests.support.result_entries import number, typed

CASES = yaml.safe_load(Path(__file__).with_name("labeling_configs.yaml").read_text())


def context(prompt: dict[str, Any] | str | None) -> Context | None:
    if prompt is None:
        return None
    said = prompt if isinstance(prompt, dict) else {"prompt": prompt}
    entries = [
        typed(value, name) if isinstance(value, str) else number(value, name)
        for name, value in said.items()
    ]
    return Context.model_validate({"result": entries})


def plan_of(case: dict[str, Any]) -> TaskPlan:
    config = parse_labeling_config(case["config"], 400)
    task = Task.model_validate({"data": case.get("data", {"image": "a.jpg"})})
    config = config.for_task(task.data)
    sources = PromptSources.of(task, context(case.get("prompt")), ProjectPrompts(), config)
    return plan_task(task, config, sources, AppSettings())


def test_the_table_is_large_and_without_repetitions() -> None:
    assert len({case["name"] for case in CASES}) == len(CASES) >= 40


@pytest.mark.parametrize("case", [c for c in CASES if "looks" in c], ids=lambda case: case["name"])
def test_what_is_looked_for(case: dict[str, Any]) -> None:
    looks = plan_of(case).looks
    assert len(looks) == len(case["looks"])
    for look, expected in zip(looks, case["looks"], strict=True):
        targets = [target for target in look.targets if target]
        labels = [target and target.label for target in look.targets]
        assert (look.uri, look.item_index) == (expected["uri"], expected.get("index"))
        assert list(zip(look.phrases, labels, strict=True)) == list(expected["asks"].items())
        if "from" in expected:
            assert [target.from_name for target in targets] == expected["from"]
        if "to" in expected:
            assert {target.to_name for target in targets} == {expected["to"]}
        if "scores" in expected:
            assert [target.min_score for target in targets] == expected["scores"]
        assert look.thresholds.text == expected.get("text", 0.25)
        assert {target.rectangle_name for target in targets} == {expected.get("rectangle")}
        boxes = expected.get("boxes", [True] * len(targets))
        assert [target.draws_box for target in targets] == boxes
        if "masks" in expected:
            masks = [{m.shape: m.from_name for m in target.masks} for target in targets]
            assert masks == expected["masks"]
        if "mask_scores" in expected:
            scores = [[m.min_score for m in target.masks] for target in targets]
            assert scores == expected["mask_scores"]


@pytest.mark.parametrize("case", [c for c in CASES if "looks" in c], ids=lambda case: case["name"])
def test_label_studio_accepts_a_box_of_every_label(case: dict[str, Any]) -> None:
    if "Repeater" in case["config"]:
        pytest.skip("the SDK does not repeat tags")
    plan = plan_of(case)
    pen = MaskPen(MaskSettings())
    regions = [
        region
        for look in plan.looks
        for region in to_regions(look, a_box_of_each(look), Suppression(1, False, 1000), pen)
    ]
    paired = {region["id"] for region in regions if region["type"] == "labels"}
    regions = [  # without those that have no label
        region
        for region in regions
        if region["id"] in paired or any("labels" in key for key in region["value"])
    ]
    drawn = {region["type"] for region in regions}
    wanted = {m.shape for look in plan.looks for t in look.targets if t for m in t.masks}
    assert {shape for shape in wanted if not {shape, f"{shape}labels", "labels"} & drawn} == set()
    prediction = to_prediction(regions, "v1", plan.echo)
    assert ImportCheck(case["config"])(prediction) is None


def a_box_of_each(look: LookPlan) -> Detections:
    count = len(look.phrases)
    boxes = np.array([[i, 0, i + 10, 10] for i in range(count)], dtype=np.float32)
    masks = tuple(
        MaskLogits(
            logits=np.ones((10, 10), np.float16),
            origin_xy=(i // 10 * 10, 0),
            cells_wh=(1000, 100),
            view_xyxy=(0, 0, 1000, 100),
            clip_xyxy=None,
            quality=0.9,
        )
        for i in range(count)
    )
    return Detections(boxes, np.full(count, 0.95), np.arange(count), (1000, 100), masks)


@pytest.mark.parametrize("case", [c for c in CASES if "error" in c], ids=lambda case: case["name"])
def test_what_cannot_be_served_says_what_to_do(case: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as error:
        plan_of(case)
    assert case["error"] in str(error.value)
    assert str(error.value).endswith(".")
