"""The examples of docs/user/prompts.md, run."""

import re
from typing import Any

import pytest

from prelabel.phrases.matching import Step
from tests.support.paths import ROOT
from tests.support.plans import looked_for, plan_of

PAGE = (ROOT / "docs" / "user" / "prompts.md").read_text(encoding="utf-8")
EXAMPLES = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.partition("## Examples")[2].partition("\n## ")[0].splitlines()
    if line.startswith("| `")
]


def label_of(text: str) -> dict[str, Any] | str:
    value, _, predicted = text.partition("=")
    return {"value": value, "predicted_values": predicted} if predicted else value


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 12


@pytest.mark.parametrize(("labels", "prompt", "asked", "found"), EXAMPLES)
def test_an_example_is_true(labels: str, prompt: str, asked: str, found: str) -> None:
    plan = plan_of([label_of(label) for label in re.findall("`(.*?)`", labels)], prompt.strip("`"))
    labels_of = {"none": None, "left out": False}
    expected = [labels_of.get(each, each) for each in found.split("; ")]
    assert dict(looked_for(plan)) == dict(zip(asked.split("; "), expected, strict=True))


@pytest.mark.parametrize("step", Step)
def test_every_step_that_an_answer_can_say_is_explained(step: Step) -> None:
    words = {"no label", "left out", "negative", "first_label", "said in the prompt"}
    assert f"`{step}`" in PAGE or step in words
