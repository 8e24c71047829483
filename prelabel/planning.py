"""Labeling config, prompt and settings of one task -> what to look for on each of its pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from prelabel.captions import normalise_phrase
from prelabel.errors import PromptError, RequestError
from prelabel.labelstudio.labeling_config import (
    ImageObject,
    Label,
    LabelingConfig,
    RectangleControl,
    parse_labeling_config,
)
from prelabel.labelstudio.protocol import Context, Task, WebhookRequest, asked_in
from prelabel.prompts import split_prompt, what_applies
from prelabel.settings import AppSettings
from prelabel.types import Asked, LookPlan, Target, Thresholds

_MOST_NAMES_SHOWN = 8
_NOTHING = Asked()
_SUBMITS = {"ANNOTATION_CREATED", "ANNOTATION_UPDATED"}

Aim = tuple[str, Target | None]  # a phrase, and the label that its boxes get


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for beside the labeling config, strongest first."""

    context: Asked
    drafts: Asked = _NOTHING
    remembered: Asked = _NOTHING

    @classmethod
    def of(
        cls, task: Task, context: Context | None, remembered: Asked, prompt_names: Sequence[str]
    ) -> Wishes:
        """Collect them from a request; the newest draft counts first."""
        drafts = Asked()
        for draft in sorted(task.drafts, key=lambda draft: draft.updated_at or "", reverse=True):
            drafts = drafts.or_else(asked_in(draft.result, prompt_names))
        entries = context.result if context else ()
        return cls(asked_in(entries, prompt_names), drafts, remembered)

    def resolve(self, control: RectangleControl, settings: AppSettings) -> Asked:
        """What applies to one control tag; both thresholds are given."""
        return what_applies(
            context=self.context,
            drafts=self.drafts,
            remembered=self.remembered,
            config=Asked(box_threshold=control.score_threshold),
            settings=Asked(None, settings.box_threshold, settings.text_threshold),
        )


def asked_by_submit(event: WebhookRequest, settings: AppSettings) -> Asked:
    """What a webhook's annotation asked for; nothing unless it was submitted just now.

    A text without any label of the project is not remembered: it is a comment, or a slip that
    would fail every later task.
    """
    annotation = event.annotation
    if event.action not in _SUBMITS or annotation is None or annotation.was_cancelled:
        return Asked()
    try:
        config = parse_labeling_config(event.label_config or "", settings.max_labels)
        asked = asked_in(annotation.result, config.prompt_names)
        if asked.prompt is None:
            return asked
        aims = _prompted_aims(asked.prompt, config.controls, Wishes(asked), settings)
        return asked if any(target for _, target in aims) else replace(asked, prompt=None)
    except RequestError:
        return Asked()  # what we could not serve is not worth remembering


def plan_task(
    task: Task, config: LabelingConfig, wishes: Wishes, settings: AppSettings
) -> list[LookPlan]:
    """One plan per picture of the task that has a label to look for.

    Raises PromptError where nothing would be looked for that the labeling config has a label for.
    """
    prompt = wishes.resolve(config.controls[0], settings).prompt
    if prompt is not None:
        aims = _prompted_aims(prompt, config.controls, wishes, settings)
        if wishes.context.prompt is None and not any(target for _, target in aims):
            prompt = None  # an old note, or a prompt from before the labels were renamed
        else:
            _check_known(aims, config, settings)
    plans: list[LookPlan] = []
    for image in config.images:
        controls = config.controls_of(image)
        aims = _distinct(
            _own_aims(controls, wishes, settings)
            if prompt is None
            else _prompted_aims(prompt, controls, wishes, settings)
        )
        if any(target for _, target in aims):
            text = wishes.resolve(controls[0], settings).text_threshold
            plans += _look_plans(image, task, aims, text)
    if not plans:
        raise PromptError("There is no word to look for. Use plain words as labels or prompt.")
    return plans


def _look_plans(
    image: ImageObject, task: Task, aims: Sequence[Aim], text_threshold: float | None
) -> Iterator[LookPlan]:
    assert text_threshold is not None  # the settings always give one
    phrases, targets = zip(*aims, strict=True)
    lowest = min(target.min_score for target in targets if target is not None)
    thresholds = Thresholds(lowest, text_threshold)
    for index, uri in enumerate(image.uris(task.data)):
        yield LookPlan(uri, index if image.many else None, phrases, targets, thresholds)


def _own_aims(
    controls: Sequence[RectangleControl], wishes: Wishes, settings: AppSettings
) -> Iterator[Aim]:
    for control in controls:
        min_score = _min_score(control, wishes, settings)  # once: a control may have many labels
        for label in control.labels:
            target = Target(control.from_name, control.to_name, label.value, min_score)
            for phrase in label.phrases:
                yield phrase, target


def _prompted_aims(
    prompt: str, controls: Sequence[RectangleControl], wishes: Wishes, settings: AppSettings
) -> list[Aim]:
    """Each phrase with the first label that it can mean."""
    names = [name for c in controls for label in c.labels for name in label.names]
    aims: list[Aim] = []
    for phrase in split_prompt(prompt, settings.max_prompt_chars, names):
        found = ((c, c.label_named(phrase)) for c in controls)
        known = next(((c, label) for c, label in found if label is not None), None)
        if known is None and settings.unknown_phrases == "first_label":
            known = controls[0], controls[0].labels[0]
        aims.append((phrase, _target(*known, wishes, settings) if known else None))
    return aims


def _check_known(aims: Sequence[Aim], config: LabelingConfig, settings: AppSettings) -> None:
    unknown = [phrase for phrase, target in aims if target is None]
    if unknown and (settings.unknown_phrases == "reject" or len(unknown) == len(aims)):
        labels = [label.value for control in config.controls for label in control.labels]
        raise PromptError(
            f"The prompt's {_listed(unknown)} is no label of this project, which has "
            f"{_listed(labels)}. Use its labels in the prompt, or add labels to the project."
        )


def _target(
    control: RectangleControl, label: Label, wishes: Wishes, settings: AppSettings
) -> Target:
    min_score = _min_score(control, wishes, settings)
    return Target(control.from_name, control.to_name, label.value, min_score)


def _min_score(control: RectangleControl, wishes: Wishes, settings: AppSettings) -> float:
    min_score = wishes.resolve(control, settings).box_threshold
    assert min_score is not None  # the settings always give one
    return min_score


def _distinct(aims: Iterable[Aim]) -> list[Aim]:
    """Phrases that are the same to the model go to the first that has a label; empty ones go."""
    distinct: dict[str, Aim] = {}
    for phrase, target in aims:
        key = normalise_phrase(phrase)
        if key and (key not in distinct or distinct[key][1] is None):
            distinct[key] = (phrase, target)
    return list(distinct.values())


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:60]) for name in names[:_MOST_NAMES_SHOWN])
    return (
        shown
        if len(names) <= _MOST_NAMES_SHOWN
        else f"{shown} and {len(names) - _MOST_NAMES_SHOWN} more"
    )
