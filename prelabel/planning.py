"""Labeling config, prompt and settings of one task -> what to look for on each of its pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from prelabel.captions import normalise_phrase
from prelabel.errors import LabelingConfigError, PromptError
from prelabel.labelstudio.labeling_config import (
    ImageObject,
    LabelingConfig,
    RectangleControl,
    parse_labeling_config,
)
from prelabel.labelstudio.protocol import Context, Task, WebhookRequest, asked_in
from prelabel.prompts import split_prompt, what_applies
from prelabel.settings import AppSettings
from prelabel.types import Asked, LookPlan, Target, Thresholds

_MOST_NAMES_SHOWN = 8
_SUBMITS = {"ANNOTATION_CREATED", "ANNOTATION_UPDATED"}

Aim = tuple[str, Target | None]  # a phrase, and the label that its boxes get


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for beside the labeling config, strongest first."""

    context: Asked
    drafts: Asked
    remembered: Asked

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
    """What a webhook's annotation asked for; nothing unless it was submitted just now."""
    annotation = event.annotation
    if event.action not in _SUBMITS or annotation is None or annotation.was_cancelled:
        return Asked()
    try:
        config = parse_labeling_config(event.label_config or "", settings.max_labels)
    except LabelingConfigError:
        return Asked()  # a project that we cannot serve has nothing to remember
    asked = asked_in(annotation.result, config.prompt_names)
    if asked.prompt is not None:
        split_prompt(asked.prompt, settings.max_prompt_chars)
    return asked


def plan_task(
    task: Task, config: LabelingConfig, wishes: Wishes, settings: AppSettings
) -> list[LookPlan]:
    """One plan per picture of the task.

    Raises PromptError where nothing would be looked for that the labeling config has a label for.
    """
    plans: list[LookPlan] = []
    for image in config.images:
        uris = image.uris(task.data)
        aims = _distinct(_aims(config, image, wishes, settings))
        if not any(target for _, target in aims):
            raise PromptError("There is no word to look for. Use plain words as labels or prompt.")
        for index, uri in enumerate(uris):
            plans.append(_look_plan(uri, index if image.many else None, aims, wishes, settings))
    return plans


def _look_plan(
    uri: str, item_index: int | None, aims: Sequence[Aim], wishes: Wishes, settings: AppSettings
) -> LookPlan:
    phrases, targets = zip(*aims, strict=True)
    text = wishes.context.or_else(wishes.drafts).or_else(wishes.remembered).text_threshold
    lowest = min(target.min_score for target in targets if target is not None)
    thresholds = Thresholds(lowest, settings.text_threshold if text is None else text)
    return LookPlan(uri, item_index, phrases, targets, thresholds)


def _aims(
    config: LabelingConfig, image: ImageObject, wishes: Wishes, settings: AppSettings
) -> Iterable[Aim]:
    controls = config.controls_of(image)
    prompt = wishes.resolve(controls[0], settings).prompt
    if prompt is None:
        return _own_aims(controls, wishes, settings)
    return _prompted_aims(
        split_prompt(prompt, settings.max_prompt_chars), controls, wishes, settings
    )


def _own_aims(
    controls: Sequence[RectangleControl], wishes: Wishes, settings: AppSettings
) -> Iterator[Aim]:
    for control in controls:
        for label in control.labels:
            for phrase in label.phrases:
                yield phrase, _target(control, label.value, wishes, settings)


def _prompted_aims(
    phrases: Sequence[str],
    controls: Sequence[RectangleControl],
    wishes: Wishes,
    settings: AppSettings,
) -> list[Aim]:
    aims: list[Aim] = []
    for phrase in phrases:
        found = ((c, c.label_named(phrase)) for c in controls)
        known = next(((c, label) for c, label in found if label is not None), None)
        if known is None and settings.unknown_phrases == "first_label":
            known = controls[0], controls[0].labels[0]
        target = _target(known[0], known[1].value, wishes, settings) if known else None
        aims.append((phrase, target))
    _check_known(aims, controls, settings)
    return aims


def _check_known(
    aims: Sequence[Aim], controls: Sequence[RectangleControl], settings: AppSettings
) -> None:
    unknown = [phrase for phrase, target in aims if target is None]
    if unknown and (settings.unknown_phrases == "reject" or len(unknown) == len(aims)):
        labels = [label.value for control in controls for label in control.labels]
        raise PromptError(
            f"The prompt's {_listed(unknown)} is no label of this project, which has "
            f"{_listed(labels)}. Use its labels in the prompt, or add labels to the project."
        )


def _target(control: RectangleControl, label: str, wishes: Wishes, settings: AppSettings) -> Target:
    min_score = wishes.resolve(control, settings).box_threshold
    assert min_score is not None  # the settings always give one
    return Target(control.from_name, control.to_name, label, min_score)


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
