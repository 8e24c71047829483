"""Labeling config, prompt and settings of one task -> what to look for on each of its pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from prelabel.captions import can_be_read, normalise_phrase
from prelabel.errors import PromptError, RequestError
from prelabel.labelstudio.labeling_config import (
    BoxControl,
    ImageObject,
    Label,
    LabelingConfig,
    parse_labeling_config,
)
from prelabel.labelstudio.protocol import Context, Task, WebhookRequest, asked_in
from prelabel.prompts import Wanted, split_prompt, what_applies
from prelabel.settings import AppSettings
from prelabel.types import Asked, LookPlan, PromptEcho, Target, TaskPlan, Thresholds

_MOST_NAMES_SHOWN = 8
_MOST_PICTURES = 1_000  # of one task
_NOTHING = Asked()
_SUBMITS = {"ANNOTATION_CREATED", "ANNOTATION_UPDATED"}

Aim = tuple[str, Target | None]  # a phrase, and the label that its boxes get


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for, strongest first. interactive: an annotator is waiting for it."""

    context: Asked
    drafts: Asked = _NOTHING
    task: Asked = _NOTHING
    remembered: Asked = _NOTHING
    config: Asked = _NOTHING
    interactive: bool = False

    @classmethod
    def of(
        cls, task: Task, context: Context | None, remembered: Asked, config: LabelingConfig
    ) -> Wishes:
        """Collect them from a request; the newest draft counts first."""
        drafts = Asked()
        for draft in sorted(task.drafts, key=lambda draft: draft.updated_at or "", reverse=True):
            drafts = drafts.or_else(asked_in(draft.result, config.ask_controls, strict=False))
        entries = context.result if context else ()
        return cls(
            asked_in(entries, config.ask_controls),
            drafts,
            Asked(prompt=config.prompt_of(task.data)),
            remembered,
            config.thresholds,
            interactive=context is not None,
        )

    def resolve(self, settings: AppSettings, score_threshold: float | None = None) -> Asked:
        """What applies; both thresholds are given. score_threshold: what the labeling config says
        of the label or its control tag.
        """
        return what_applies(
            context=self.context,
            drafts=self.drafts,
            task=self.task,
            remembered=self.remembered,
            config=Asked(box_threshold=score_threshold).or_else(self.config),
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
        config = config.for_task(event.task.data if event.task else {})
        asked = asked_in(annotation.result, config.ask_controls, strict=False)
        if asked.prompt is None:
            return asked
        wanted = _wanted(asked.prompt, config.controls, settings)
        aims = _prompted_aims(wanted, config.controls, Wishes(asked), settings)
        return asked if any(target for _, target in aims) else replace(asked, prompt=None)
    except RequestError:
        return Asked()  # what we could not serve is not worth remembering


def plan_task(
    task: Task, config: LabelingConfig, wishes: Wishes, settings: AppSettings
) -> TaskPlan:
    """One look per picture of the task that has a label to look for.

    config: as this task fills it in. Raises PromptError where nothing would be looked for that it
    has a label for, RequestError where the task has none of the pictures to look at.
    """
    prompt = wishes.resolve(settings).prompt
    if prompt is not None:
        wanted = _wanted(prompt, config.controls, settings)
        aims = _prompted_aims(wanted, config.controls, wishes, settings)
        if wishes.context.prompt is None and not any(target for _, target in aims):
            prompt = None  # an old note, or a prompt from before the labels were renamed
        else:
            _check_known(wanted, aims, config, settings)
    looks: list[LookPlan] = []
    missing: list[str] = []
    for image in config.images:
        controls = config.controls_of(image)
        aims = _distinct(
            _own_aims(controls, wishes, settings)
            if prompt is None
            else _prompted_aims(_wanted(prompt, controls, settings), controls, wishes, settings)
        )
        if not any(target for _, target in aims):
            continue
        if uris := image.uris(task.data):
            if len(looks) + len(uris) > _MOST_PICTURES:
                raise RequestError(
                    f"The task has more than {_MOST_PICTURES} pictures. Split it into several."
                )
            looks += _looks(image, uris, aims, wishes.resolve(settings).text_threshold)
        else:
            missing.append(image.value)
    if missing and not looks:
        raise RequestError(
            f"The task has no picture address under {_listed(missing)}, which the labeling "
            "config's <Image> names. Import the task with that field."
        )
    if not looks:
        raise PromptError("There is no word to look for. Use plain words as labels or prompt.")
    return TaskPlan(tuple(looks), _echo(prompt, config, wishes))


def _echo(prompt: str | None, config: LabelingConfig, wishes: Wishes) -> PromptEcho | None:
    """The prompt for the prediction: not where the annotator has just typed it, nor where it would
    hide the text area, which shows no more once it holds all the texts it may.
    """
    area = config.prompt_area
    if prompt is None or area is None or not area.repeatable or wishes.interactive:
        return None
    return PromptEcho(area.name, area.to_name, prompt)


def _looks(
    image: ImageObject, uris: Sequence[str], aims: Sequence[Aim], text_threshold: float | None
) -> Iterator[LookPlan]:
    assert text_threshold is not None  # the settings always give one
    phrases, targets = zip(*aims, strict=True)
    lowest = min(target.min_score for target in targets if target is not None)
    thresholds = Thresholds(lowest, text_threshold)
    for index, uri in enumerate(uris):
        yield LookPlan(uri, index if image.many else None, phrases, targets, thresholds)


def _own_aims(
    controls: Sequence[BoxControl], wishes: Wishes, settings: AppSettings
) -> Iterator[Aim]:
    """What the labels themselves ask for; those that no caption can hold are left out, since they
    would cost their neighbours the whole task.
    """
    for control in controls:
        for label in control.labels:
            target = _target(control, label, wishes, settings)
            for phrase in label.phrases:
                if can_be_read(phrase):
                    yield phrase, target


def _wanted(
    prompt: str, controls: Sequence[BoxControl], settings: AppSettings
) -> tuple[Wanted, ...]:
    names = [name for c in controls for label in c.labels for name in label.names]
    return split_prompt(prompt, settings.max_prompt_chars, names)


def _prompted_aims(
    wanted: Iterable[Wanted], controls: Sequence[BoxControl], wishes: Wishes, settings: AppSettings
) -> list[Aim]:
    """Each phrase with the first label that it can mean, or that the prompt gives it."""
    aims: list[Aim] = []
    for each in wanted:
        found = ((c, c.label_named(each.label or each.phrase)) for c in controls)
        known = next(((c, label) for c, label in found if label is not None), None)
        if known is None and settings.unknown_phrases == "first_label" and controls[0].labels:
            known = controls[0], controls[0].labels[0]
        aims.append((each.phrase, _target(*known, wishes, settings) if known else None))
    return aims


def _check_known(
    wanted: Sequence[Wanted], aims: Sequence[Aim], config: LabelingConfig, settings: AppSettings
) -> None:
    unknown = [
        each.label or each.phrase
        for each, (_, target) in zip(wanted, aims, strict=True)
        if target is None
    ]
    if unknown and (settings.unknown_phrases == "reject" or len(unknown) == len(aims)):
        labels = [label.value for control in config.controls for label in control.labels]
        raise PromptError(
            f"The prompt's {_listed(unknown)} is no label of this project, which has "
            f"{_listed(labels)}. Use its labels in the prompt, or add labels to the project."
        )


def _target(control: BoxControl, label: Label, wishes: Wishes, settings: AppSettings) -> Target:
    own = control.score_threshold if label.score_threshold is None else label.score_threshold
    min_score = wishes.resolve(settings, own).box_threshold
    assert min_score is not None  # the settings always give one
    return Target(
        control.from_name, control.to_name, label.value, min_score, control.rectangle_name
    )


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
