"""Labeling config, prompt and settings of one task -> what to look for on each of its pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from prelabel.captions import can_be_read, normalise_phrase
from prelabel.errors import PromptError, RequestError
from prelabel.labelstudio.labeling_config import (
    ImageObject,
    LabelingConfig,
    parse_labeling_config,
)
from prelabel.labelstudio.labels import BoxControl, Label, Place
from prelabel.labelstudio.protocol import Context, Task, WebhookRequest, asked_in
from prelabel.prompts import Wanted, split_prompt, what_applies
from prelabel.settings import AppSettings
from prelabel.types import Asked, LookPlan, PromptEcho, Target, TaskPlan, Thresholds

_MOST_NAMES_SHOWN = 8
_MOST_PICTURES = 1_000  # of one task
_MOST_DRAFTS = 20  # of one task; each is another annotator's
_NOTHING = Asked()
_SUBMITS = {"ANNOTATION_CREATED", "ANNOTATION_UPDATED"}

Aim = tuple[str, Target | None]  # a phrase, and the label that its boxes get
_Phrases = Sequence[tuple[str, str]]  # each as it stands in a caption, and as it was spelled


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for, strongest first; drafts: of several, the newest first. interactive: an
    annotator is waiting for it.
    """

    context: Asked
    drafts: tuple[Asked, ...] = ()
    task: Asked = _NOTHING
    remembered: Asked = _NOTHING
    config: Asked = _NOTHING
    interactive: bool = False

    @classmethod
    def of(
        cls, task: Task, context: Context | None, remembered: Asked, config: LabelingConfig
    ) -> Wishes:
        """Collect them from a request."""
        drafts = sorted(task.drafts, key=lambda draft: draft.updated_at or "", reverse=True)
        newest = drafts[:_MOST_DRAFTS]
        entries = context.result if context else ()
        return cls(
            asked_in(entries, config.ask_controls),
            tuple(asked_in(draft.result, config.ask_controls, strict=False) for draft in newest),
            Asked(prompt=config.prompt_of(task.data)),
            remembered,
            config.thresholds,
            interactive=context is not None,
        )

    def older_prompts(self) -> Iterator[str]:
        """Those that nobody has just typed, strongest first."""
        for asked in (*self.drafts, self.task, self.remembered):
            if asked.prompt is not None:
                yield asked.prompt

    def resolve(self, settings: AppSettings, score_threshold: float | None = None) -> Asked:
        """Which thresholds apply; both are given. score_threshold: what the labeling config says
        of the label or its control tag.
        """
        drafts = Asked()
        for draft in self.drafts:
            drafts = drafts.or_else(draft)
        return what_applies(
            context=self.context,
            drafts=drafts,
            task=self.task,
            remembered=self.remembered,
            config=Asked(box_threshold=score_threshold).or_else(self.config),
            settings=Asked(None, settings.box_threshold, settings.text_threshold),
        )


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A prompt as a labeling config lets it be read.

    wanted: what it says, and by name of the picture, where the boxes go; unknown: what of that is
    called like no label. typed: it was typed just now, and the annotator waits for it.
    """

    text: str
    wanted: tuple[tuple[Wanted, Mapping[str, Place]], ...]
    unknown: tuple[str, ...]
    typed: bool

    @property
    def is_useful(self) -> bool:
        """Whether it says anything that has a label and can be looked for."""
        return any(places and can_be_read(each.phrase) for each, places in self.wanted)

    @property
    def phrases(self) -> Iterator[tuple[str, Mapping[str, Place]]]:
        """What to look for. What no caption can hold would cost the rest: it is left out, but for
        a label that was just typed, of which the annotator is told.
        """
        for each, places in self.wanted:
            if can_be_read(each.phrase) or (
                self.typed and places and normalise_phrase(each.phrase)
            ):
                yield each.phrase, places


def asked_by_submit(event: WebhookRequest, settings: AppSettings) -> Asked:
    """What a webhook's annotation asked for; nothing unless it was submitted just now.

    A text without any label of the project is not remembered: it is a comment, or a slip that
    would fail every later task. Nor is one that nobody typed: what the task brought along, or its
    prediction, which shows the prompt of its time.
    """
    annotation = event.annotation
    if event.action not in _SUBMITS or annotation is None or annotation.was_cancelled:
        return Asked()
    data = event.task.data if event.task else {}
    try:
        config = parse_labeling_config(event.label_config or "", settings.max_labels)
        config = config.for_task(data)
        of_task = config.prompt_of(data)
    except RequestError:
        return Asked()  # what we could not serve is not worth remembering
    controls = config.ask_controls
    shown = annotation.prediction.result if annotation.prediction else ()
    brought = (of_task, asked_in(shown, controls, strict=False).prompt)
    typed = [entry for entry in annotation.result if entry.origin != "prediction"]
    asked = asked_in(typed, controls, strict=False)
    if asked.prompt in brought or not _is_worth_keeping(asked.prompt, config, settings):
        return replace(asked, prompt=None)
    return asked


def _is_worth_keeping(text: str | None, config: LabelingConfig, settings: AppSettings) -> bool:
    if text is None:
        return False
    try:
        prompt = _read_prompt(text, config, settings)
        _check_known(prompt, config, settings)
    except PromptError:
        return False
    return prompt.is_useful


def plan_task(
    task: Task, config: LabelingConfig, wishes: Wishes, settings: AppSettings
) -> TaskPlan:
    """One look per picture of the task that has a label to look for.

    config: as this task fills it in. Raises PromptError where nothing would be looked for that it
    has a label for, RequestError where the task has none of the pictures to look at.
    """
    prompt = _prompt_that_applies(config, wishes, settings)
    aims = _Aims(config, prompt, _Targets(wishes, settings))
    looks: list[LookPlan] = []
    missing: list[str] = []
    for image in config.images:
        if image.name not in aims.pictures:
            continue
        if uris := image.uris(task.data):
            if len(looks) + len(uris) > _MOST_PICTURES:
                raise RequestError(
                    f"The task has more than {_MOST_PICTURES} pictures. Split it into several."
                )
            looks += _looks(image, uris, aims.of(image), wishes.resolve(settings).text_threshold)
        else:
            missing.append(image.value)
    if missing and not looks:
        raise RequestError(
            f"The task has no picture address under {_listed(missing)}, which the labeling "
            "config's <Image> names. Import the task with that field."
        )
    if not looks:
        raise PromptError("There is no word to look for. Use plain words as labels or prompt.")
    return TaskPlan(tuple(looks), _echo(prompt.text if prompt else None, config, wishes))


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


def _prompt_that_applies(
    config: LabelingConfig, wishes: Wishes, settings: AppSettings
) -> _Prompt | None:
    """What was just typed; else the strongest of the older ones that can be used."""
    if wishes.context.prompt is not None:
        prompt = replace(_read_prompt(wishes.context.prompt, config, settings), typed=True)
        _check_known(prompt, config, settings)
        return prompt
    for text in wishes.older_prompts():
        try:
            prompt = _read_prompt(text, config, settings)
        except PromptError:
            continue  # a long text that a task brings along, which nobody meant as a prompt
        if prompt.is_useful:  # no old note, nor one from before the labels were renamed
            _check_known(prompt, config, settings)
            return prompt
    return None


def _read_prompt(text: str, config: LabelingConfig, settings: AppSettings) -> _Prompt:
    wanted = split_prompt(text, settings.max_prompt_chars, config.names.all)
    places: dict[str, Mapping[str, Place]] = {}
    for name in (each.label or each.phrase for each in wanted):
        if name not in places:
            places[name] = config.names.called(name)
    unknown = tuple(name for name, found in places.items() if not found)
    if settings.unknown_phrases == "first_label":
        places |= dict.fromkeys(unknown, _first_labels(config))
        unknown = ()
    return _Prompt(
        text,
        tuple((each, places[each.label or each.phrase]) for each in wanted),
        unknown,
        typed=False,
    )


def _first_labels(config: LabelingConfig) -> Mapping[str, Place]:
    firsts = ((image.name, config.controls_of(image)[0]) for image in config.images)
    return {name: (first, first.labels[0]) for name, first in firsts if first.labels}


def _check_known(prompt: _Prompt, config: LabelingConfig, settings: AppSettings) -> None:
    nothing_known = not any(places for _, places in prompt.wanted)
    if prompt.unknown and (settings.unknown_phrases == "reject" or nothing_known):
        labels = [label.value for control in config.controls for label in control.labels]
        raise PromptError(
            f"The prompt's {_listed(prompt.unknown)} is no label of this project, which has "
            f"{_listed(labels)}. Use its labels in the prompt, or add labels to the project."
        )


class _Targets:
    """Where boxes go. Each target is made once, however many phrases it has."""

    def __init__(self, wishes: Wishes, settings: AppSettings) -> None:
        self._wishes = wishes
        self._settings = settings
        self._made: dict[tuple[str, str, str], Target] = {}

    def of(self, control: BoxControl, label: Label) -> Target:
        """The target of a control's label."""
        key = (control.from_name, control.to_name, label.value)
        if key not in self._made:
            self._made[key] = Target(*key, self._min_score(control, label), control.rectangle_name)
        return self._made[key]

    def _min_score(self, control: BoxControl, label: Label) -> float:
        own = control.score_threshold if label.score_threshold is None else label.score_threshold
        min_score = self._wishes.resolve(self._settings, own).box_threshold
        assert min_score is not None  # the settings always give one
        return min_score


class _Aims:
    """What to look for on each picture: what the prompt says, else what the labels ask for
    themselves. Phrases that are one to the model go to the first that has a label. pictures: the
    names of those on which a label is looked for.
    """

    def __init__(self, config: LabelingConfig, prompt: _Prompt | None, targets: _Targets) -> None:
        self._config = config
        self._targets = targets
        self._prompted = None if prompt is None else _by_places(prompt)
        self._unlabelled: dict[str, Aim] = {}
        for _, phrases in self._prompted or ():
            for key, phrase in phrases:
                self._unlabelled.setdefault(key, (phrase, None))
        self.pictures = (
            {image.name for image in config.images if any(self._of_labels(image))}
            if self._prompted is None
            else {name for places, _ in self._prompted for name in places}
        )

    def of(self, image: ImageObject) -> list[Aim]:
        """What to look for on this picture."""
        labelled: dict[str, Aim] = {}
        for phrases, place in (
            self._of_labels(image) if self._prompted is None else self._of_prompt(image)
        ):
            target = self._targets.of(*place)
            for key, phrase in phrases:
                labelled.setdefault(key, (phrase, target))
        return list((self._unlabelled | labelled).values())

    def _of_prompt(self, image: ImageObject) -> Iterator[tuple[_Phrases, Place]]:
        for places, phrases in self._prompted or ():
            if image.name in places:
                yield phrases, places[image.name]

    def _of_labels(self, image: ImageObject) -> Iterator[tuple[_Phrases, Place]]:
        """Phrases that no caption can hold are left out: they would cost their neighbours the
        whole task.
        """
        for control in self._config.controls_of(image):
            for label in control.labels:
                if phrases := [(normalise_phrase(p), p) for p in label.phrases if can_be_read(p)]:
                    yield phrases, (control, label)


def _by_places(prompt: _Prompt) -> list[tuple[Mapping[str, Place], _Phrases]]:
    """What follows each other in a prompt and belongs to one label, together: there may be
    thousands of phrases, and of pictures.
    """
    together = groupby(prompt.phrases, key=lambda each: id(each[1]))
    groups = [list(group) for _, group in together]
    return [(group[0][1], [(normalise_phrase(p), p) for p, _ in group]) for group in groups]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:60]) for name in names[:_MOST_NAMES_SHOWN])
    return (
        shown
        if len(names) <= _MOST_NAMES_SHOWN
        else f"{shown} and {len(names) - _MOST_NAMES_SHOWN} more"
    )
