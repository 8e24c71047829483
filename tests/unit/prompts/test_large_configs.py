"""The work that the largest labeling configs cost: /webhook accepts them from any sender."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from prelabel.errors import LabelingConfigError, RequestError
from prelabel.labelstudio.config_tree import MAX_CONFIG_CHARS, MAX_TAGS
from prelabel.labelstudio.labeling_config import parse_labeling_config
from prelabel.labelstudio.protocol import Task
from prelabel.phrases.inflection import load_inflection
from prelabel.prompts.planner import plan_task
from prelabel.prompts.sources import PromptSources
from prelabel.settings import AppSettings
from prelabel.types import ProjectPrompts, PromptRequest
from tests.support.result_entries import typed
from tests.support.work import count_calls

pytestmark = pytest.mark.slow

SETTINGS = AppSettings()
MAX_LABELS = SETTINGS.prompts.max_labels
# Today parsing makes 2.6 calls a character and a plan 2 million calls: a second on a laptop.
PARSER_CALLS_PER_CHARACTER = 6
PLAN_CALLS = 4_000_000

CAT = '<Label value="cat"/>'
CONTROL = f'<RectangleLabels name="z" toName="0">{CAT}</RectangleLabels>'
# 1,900 phrases, none of which is a word of these configs, and one that is.
PROMPT = ".".join(map(chr, range(0x4E00, 0x4E00 + 1900))) + ".cat"


def pictures(count: int) -> str:
    return "".join(f'<Image name="{n}" value="$i"/>' for n in range(count))


def controls(count: int, images: int, labels: str = "", **more: str) -> str:
    attributes = "".join(f' {name}="{value}"' for name, value in more.items())
    names = ",".join(map(str, range(images)))
    return "".join(
        f'<RectangleLabels name="c{n}" toName="{names}"{attributes}>{labels}</RectangleLabels>'
        for n in range(count)
    )


def view(*tags: str) -> str:
    return f"<View>{''.join(tags)}</View>"


def each_its_own(count: int, labels: str = CAT) -> str:
    return "".join(
        f'<Image name="{n}" value="$i"/>'
        f'<RectangleLabels name="c{n}" toName="{n}">{labels}</RectangleLabels>'
        for n in range(count)
    )


WORDS = ",".join(f"w{n}" for n in range(9_000))

CONFIGS = {
    "controls for many pictures": view(pictures(5_000), controls(6, 5_000, value="$l")),
    "more controls for many pictures": view(pictures(8_000), controls(14, 8_000, value="$l")),
    "controls without labels": view(pictures(1), controls(15_000, 1), CONTROL),
    "controls with labels from the task": view(pictures(1), controls(12_000, 1, value="$l")),
    "numbers": view(pictures(1), CONTROL, '<Number name="score"/>' * 40_000),
    "pictures and text areas": view(
        pictures(18_000), CONTROL, '<TextArea name="t" toName="0"/>' * 14_000
    ),
    "rectangles": view(pictures(9_000), CONTROL, '<Rectangle name="r" toName="0"/>' * 18_000),
    "a picture each": view(each_its_own(8_000)),
    "a thousand pictures": view(each_its_own(1_000)),
    "five thousand pictures": view(each_its_own(5_000)),
    "a picture many times": view('<Image name="0" value="$i"/>' * 35_000, CONTROL),
    "labels for many pictures": view(
        pictures(1_000), controls(1, 1_000, "".join(f'<Label value="{n}"/>' for n in range(49)))
    ),
    "words for many pictures": view(
        pictures(1_000), controls(1, 1_000, f'<Label value="cat" predicted_values="{WORDS}"/>')
    ),
    "words for some pictures": view(
        pictures(5), controls(1, 5, f'<Label value="cat" predicted_values="{WORDS}"/>')
    ),
    "one name in all spellings": view(
        pictures(1_000),
        controls(1, 1_000, "".join(f'<Label value="cat{"." * n}"/>' for n in range(49))),
    ),
}


@pytest.fixture(autouse=True, scope="module")
def inflection() -> None:
    """Loaded as in the service; else the first test of a process would count the import."""
    load_inflection()


def calls_of(work: Callable[[], object]) -> int:
    def work_or_refusal() -> None:
        with suppress(RequestError):
            work()

    return count_calls(work_or_refusal)


@pytest.mark.parametrize("name", CONFIGS)
def test_parsing_a_config_takes_calls_in_proportion_to_its_length(name: str) -> None:
    xml = CONFIGS[name]
    assert len(xml) <= MAX_CONFIG_CHARS
    assert xml.count("<") <= MAX_TAGS * 2
    calls = calls_of(lambda: parse_labeling_config.__wrapped__(xml, MAX_LABELS))
    assert calls < PARSER_CALLS_PER_CHARACTER * len(xml)


@pytest.mark.parametrize("picture", [{"i": "a.jpg"}, {}], ids=["with pictures", "without"])
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(
    "prompt",
    [None, PROMPT, "cat:" + PROMPT.replace(".", ","), "cat.Cat.cAt.CAT.caT.CAt.cAT.CaT."],
    ids=["no prompt", "unknown phrases", "phrases of one label", "spellings of one label"],
)
def test_planning_takes_a_bounded_number_of_calls(
    name: str, prompt: str | None, picture: dict[str, Any]
) -> None:
    try:
        config = parse_labeling_config(CONFIGS[name], MAX_LABELS).for_task(picture)
    except LabelingConfigError:
        return
    task = Task.model_validate({"data": picture})
    sources = PromptSources.of(task, None, ProjectPrompts(PromptRequest(prompt)), config)
    assert calls_of(lambda: plan_task(task, config, sources, SETTINGS)) < PLAN_CALLS


def test_planning_a_task_of_many_drafts_takes_a_bounded_number_of_calls() -> None:
    config = parse_labeling_config(CONFIGS["words for some pictures"], MAX_LABELS)
    unknown = PROMPT.removesuffix(".cat")
    drafts = [{"result": [typed(f"{unknown}.{n}")]} for n in range(1000)]
    task = Task.model_validate({"data": {"i": "a.jpg"}, "drafts": drafts})
    sources = PromptSources.of(task, None, ProjectPrompts(), config)
    assert calls_of(lambda: plan_task(task, config, sources, SETTINGS)) < PLAN_CALLS
