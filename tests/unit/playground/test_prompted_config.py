"""A prompt or labels -> a labeling config, and the phrases that a picture is searched for."""

from __future__ import annotations

from typing import Any

import pytest
from label_studio_sdk.label_interface.interface import LabelInterface

from prelabel.errors import PromptError
from prelabel.labelstudio.interactive_request import request_with_config
from prelabel.labelstudio.labeling_config import parse_labeling_config
from prelabel.labelstudio.protocol import PredictRequest, Task
from prelabel.phrases.vocabulary import shipped_vocabulary
from prelabel.playground.prompted_config import PromptedConfig
from prelabel.prompts.planner import plan_task
from prelabel.prompts.sources import PromptSources
from prelabel.settings import AppSettings
from prelabel.types import LookPlan, ProjectPrompts, Thresholds

SETTINGS = AppSettings()
FLOOR = Thresholds(0.02, 0.0)


def prompted(prompt: str, labels: list[str] | None = None) -> PromptedConfig:
    return PromptedConfig.of(prompt, labels, SETTINGS.prompts.max_chars)


def look_of(config: PromptedConfig) -> LookPlan:
    [look] = config.plan(SETTINGS, shipped_vocabulary(), FLOOR).looks
    return look


def searches(look: LookPlan) -> list[tuple[str, Any]]:
    """Each phrase with the label of its boxes; False if they are dropped."""
    return [
        (phrase, target.label if target else False)
        for phrase, target in zip(look.phrases, look.targets, strict=True)
    ]


def look_of_predict(config: str, prompt: str | None) -> LookPlan:
    """The plan of POST /predict with that config."""
    body = request_with_config("x.jpg", config, prompt, {"box_threshold": 0.02})
    request = PredictRequest.model_validate(body)
    parsed = parse_labeling_config(config, SETTINGS.prompts.max_labels)
    task = request.tasks[0]
    assert isinstance(task, Task)
    sources = PromptSources.of(
        task, request.context, ProjectPrompts(), parsed, request.prompt_request
    )
    [look] = plan_task(task, parsed, sources, SETTINGS, shipped_vocabulary()).looks
    return look


PROMPTS: list[tuple[str, list[str] | None, list[tuple[str, Any]]]] = [
    ("cat . dog", None, [("cat", "cat"), ("dog", "dog")]),
    (
        "cat . Vehicle: sedan, pickup . -dog",
        None,
        [("cat", "cat"), ("sedan", "Vehicle"), ("pickup", "Vehicle"), ("dog", False)],
    ),
    ("a cat, the Red Star", None, [("cat", "cat"), ("Red Star", "Red Star")]),
    ("cat, cats", None, [("cat", "cat")]),
    ("red_star", None, [("red star", "red_star")]),
    ("cat: kitten . cat", None, [("kitten", "cat"), ("cat", "cat")]),
    ("", ["cats", "red_star"], [("cats", "cats"), ("red star", "red_star")]),
    ("cat . house", ["cats", "dog"], [("cat", "cats"), ("house", None)]),
    ("not: dog", ["cat", "dog"], [("dog", False), ("cat", "cat")]),
    ("scratch . dent", ["Defect"], [("scratch", "Defect"), ("dent", "Defect")]),
    ('<b> & "quotes"', None, [('<b> & "quotes', '<b> & "quotes')]),
]


@pytest.mark.parametrize(("prompt", "labels", "expected"), PROMPTS)
def test_searches_and_their_labels(
    prompt: str, labels: list[str] | None, expected: list[tuple[str, Any]]
) -> None:
    config = prompted(prompt, labels)
    found = searches(look_of(config))
    if "<b>" not in prompt:  # of marks, only the label's spelling matters
        assert found == expected
    # The same plan as that of the predict request with the exported config.
    of_predict = look_of_predict(config.text(), config.prompt)
    assert (of_predict.phrases, searches(of_predict)) == (look_of(config).phrases, found)


@pytest.mark.parametrize(("prompt", "labels", "_expected"), PROMPTS)
@pytest.mark.parametrize("masks", [False, True])
def test_label_studio_accepts_the_config(
    prompt: str, labels: list[str] | None, _expected: Any, masks: bool
) -> None:
    config = prompted(prompt, labels).text({"box_threshold": 0.35}, masks=masks)
    LabelInterface(config).validate()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "prompt", [prompt for prompt, labels, _ in PROMPTS if labels is None and "-" not in prompt]
)
def test_a_project_with_the_config_needs_no_prompt_for_the_same_searches(prompt: str) -> None:
    config = prompted(prompt)
    assert searches(look_of_predict(config.text(), None)) == searches(look_of(config))


def test_thresholds_are_defaults_of_the_config() -> None:
    text = prompted("cat").text({"box_threshold": 0.4, "text_threshold": 0.1})
    parsed = parse_labeling_config(text, 10)
    assert (parsed.thresholds.box_threshold, parsed.thresholds.text_threshold) == (0.4, 0.1)


@pytest.mark.parametrize(
    ("prompt", "labels", "sentence"),
    [
        ("", None, "The prompt names nothing to look for"),
        (" . ", [], "The prompt names nothing to look for"),
        ("not: dog", None, "The prompt excludes everything"),
        ("x" * 5_000, None, "longer than 4000 characters"),
    ],
)
def test_nothing_to_look_for_is_an_error(
    prompt: str, labels: list[str] | None, sentence: str
) -> None:
    with pytest.raises(PromptError, match=sentence):
        prompted(prompt, labels)


def test_words_that_the_model_cannot_read_are_reported() -> None:
    plan = prompted("cat . 猫").plan(SETTINGS, shipped_vocabulary(), FLOOR)
    assert plan.unreadable == ("猫",)
    assert plan.looks[0].phrases == ("cat",)
