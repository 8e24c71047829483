"""Plans for one prompt and a list of labels."""

from typing import Any
from xml.sax.saxutils import quoteattr

from prelabel.labelstudio.labeling_config import parse_labeling_config
from prelabel.labelstudio.protocol import Context, Task
from prelabel.prompts.planner import plan_task
from prelabel.prompts.sources import PromptSources
from prelabel.settings import AppSettings
from prelabel.types import ProjectPrompts, TaskPlan
from tests.support.result_entries import typed


def config_of(labels: list[Any]) -> str:
    tags = ""
    for label in labels:
        attributes = label if isinstance(label, dict) else {"value": label}
        tags += "<Label " + " ".join(f"{k}={quoteattr(v)}" for k, v in attributes.items()) + "/>"
    return (
        '<View><TextArea name="prompt" toName="image"/><Image name="image" value="$image"/>'
        f'<RectangleLabels name="label" toName="image">{tags}</RectangleLabels></View>'
    )


def plan_of(labels: list[Any], prompt: str) -> TaskPlan:
    config = parse_labeling_config(config_of(labels), 1000)
    task = Task.model_validate({"data": {"image": "a.jpg"}})
    context = Context.model_validate({"result": [typed(prompt)]})
    sources = PromptSources.of(task, context, ProjectPrompts(), config)
    return plan_task(task, config, sources, AppSettings())


def looked_for(plan: TaskPlan) -> list[Any]:
    [look] = plan.looks
    targets = [target.label if target else False for target in look.targets]
    return list(zip(look.phrases, targets, strict=True))
