"""A table of prompts, with their phrases and the label of each."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from prelabel.labelstudio.labeling_config import parse_labeling_config
from prelabel.labelstudio.protocol import Task
from prelabel.phrases.matching import nearest
from prelabel.prompts.planner import plan_task
from prelabel.prompts.sources import PromptSources
from prelabel.settings import AppSettings
from prelabel.types import ProjectPrompts
from tests.support.plans import config_of, looked_for, plan_of

TABLE = yaml.safe_load(Path(__file__).with_name("matching.yaml").read_text(encoding="utf-8"))
ROWS = [
    (part["labels"], prompt, expected) for part in TABLE for prompt, expected in part["prompts"]
]


def test_the_table_is_large_and_without_repetitions() -> None:
    counts = Counter((repr(labels), prompt) for labels, prompt, _ in ROWS)
    assert max(counts.values()) == 1
    assert len(ROWS) >= 200


@pytest.mark.parametrize(
    ("labels", "prompt", "expected"),
    ROWS,
    ids=[f"{part['from']}: {prompt}" for part in TABLE for prompt, _ in part["prompts"]],
)
def test_a_prompt_finds_its_labels(
    labels: list[Any], prompt: str, expected: dict[str, Any]
) -> None:
    found = looked_for(plan_of(labels, prompt))
    assert dict(found) == expected
    assert len(found) == len(expected)


STEPS = [
    ("Car", "as spelled"),
    ("K1", "alias"),
    ("truck", "predicted_values"),
    ("CAR", "upper and lower case"),
    ("Car?", "marks"),
    ("the car", "normal form"),
    ("cars", "singular and plural"),
    ("pick up", "written together"),
    ("Car: sedan", "said in the prompt"),
    ("tree", "no label"),
    ("-tree . car", "negative"),
]


@pytest.mark.parametrize(("prompt", "step"), STEPS)
def test_the_answer_says_by_which_step_a_label_was_found(prompt: str, step: str) -> None:
    labels = [
        {"value": "Car", "predicted_values": "car, truck, pickup"},
        {"value": "Cat", "alias": "K1"},
    ]
    first = plan_of(labels, prompt).matches[0]
    assert first.step == step
    assert first.label == {"alias": "K1", "no label": None, "negative": None}.get(step, "Car")


def test_no_step_comes_before_a_closer_one() -> None:
    [first, second] = plan_of(["cats", "cat"], "cat . a cat").matches
    assert (first.label, first.step) == ("cat", "as spelled")
    assert (second.label, second.step) == ("cat", "normal form")


def test_what_is_said_of_a_match_is_what_is_looked_for() -> None:
    labels = [{"value": "Hund", "predicted_values": "dog, puppy"}]
    [match] = plan_of([*labels, "Katze"], "Hund").matches
    assert (match.phrase, match.searched, match.label) == ("Hund", ("dog", "puppy"), "Hund")


@pytest.mark.parametrize(
    ("phrase", "names", "near"),
    [
        ("trunk", ["truck", "cat"], ["truck"]),
        ("trafic light", ["Traffic_Light", "stop sign"], ["Traffic_Light"]),
        ("giraffe", ["cat", "house"], []),
        ("x" * 5000, ["x" * 5000], ["x" * 5000]),
    ],
)
def test_the_nearest_names_are_those_that_are_spelled_alike(
    phrase: str, names: list[str], near: list[str]
) -> None:
    assert nearest(phrase, names) == near


@pytest.mark.parametrize(
    "spelling", ["traffic_light", "traffic-light", "TrafficLight", "trafficlight"]
)
def test_a_label_s_own_words_are_looked_for_however_it_is_spelled(spelling: str) -> None:
    config = parse_labeling_config(config_of([spelling, "cat"]), 10)
    task = Task.model_validate({"data": {"image": "a.jpg"}})
    plan = plan_task(
        task, config, PromptSources.of(task, None, ProjectPrompts(), config), AppSettings()
    )
    assert [(words.lower(), label) for words, label in looked_for(plan)] == [
        ("traffic light", spelling),
        ("cat", "cat"),
    ]
