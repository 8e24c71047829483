"""Labeling config, prompt and settings of one task -> what to look for on each of its pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from prelabel.errors import PromptError, RequestError
from prelabel.labelstudio.labeling_config import (
    ImageObject,
    LabelingConfig,
    parse_labeling_config,
)
from prelabel.labelstudio.protocol import Task, WebhookRequest, asked_in
from prelabel.phrases.vocabulary import Vocabulary, shipped_vocabulary
from prelabel.prompts.resolver import (
    PlannedPrompt,
    check_known,
    check_readable,
    listed,
    read_prompt,
    unreadable_sentence,
)
from prelabel.prompts.sources import PromptSources
from prelabel.prompts.targets import Aim, PhraseTargets
from prelabel.settings import AppSettings, DetectionSettings, PromptSettings
from prelabel.types import LookPlan, PresentRegion, PromptEcho, PromptRequest, TaskPlan, Thresholds

_MOST_PICTURES = 1_000  # of one task
_SUBMITS = {"ANNOTATION_CREATED", "ANNOTATION_UPDATED"}


def asked_by_submit(
    event: WebhookRequest, settings: PromptSettings, vocabulary: Vocabulary | None = None
) -> PromptRequest:
    """What a webhook's annotation asked for; nothing unless it was submitted just now.

    A text without any label of the project is not remembered: it is a comment, or a slip that
    would fail every later task. Nor is one that nobody typed: what the task brought along, or its
    prediction, which shows the prompt of its time.
    """
    annotation = event.annotation
    if event.action not in _SUBMITS or annotation is None or annotation.was_cancelled:
        return PromptRequest()
    data = event.task.data if event.task else {}
    try:
        config = parse_labeling_config(event.label_config or "", settings.max_labels)
        config = config.for_task(data)
        of_task = config.prompt_of(data)
    except RequestError:
        return PromptRequest()  # what we could not serve is not worth remembering
    controls = config.ask_controls
    shown = annotation.prediction.result if annotation.prediction else ()
    brought = (of_task, asked_in(shown, controls, strict=False).prompt)
    typed = [entry for entry in annotation.result if entry.origin != "prediction"]
    asked = asked_in(typed, controls, strict=False)
    planner = _Planner(config, settings, vocabulary or shipped_vocabulary())
    if asked.prompt in brought or not planner.is_worth_keeping(asked.prompt):
        return replace(asked, prompt=None)
    return asked


def plan_task(
    task: Task,
    config: LabelingConfig,
    sources: PromptSources,
    settings: AppSettings,
    vocabulary: Vocabulary | None = None,
) -> TaskPlan:
    """One look per picture of the task that has a label to look for.

    config: as this task fills it in; vocabulary: of the model, or that of BERT. Raises PromptError
    where nothing would be looked for that it has a label for, RequestError where the task has none
    of the pictures to look at.
    """
    planner = _Planner(config, settings.prompts, vocabulary or shipped_vocabulary())
    return planner.plan(task, sources, settings.detection)


@dataclass(frozen=True, slots=True)
class _Planner:
    config: LabelingConfig
    settings: PromptSettings
    vocabulary: Vocabulary

    def is_worth_keeping(self, text: str | None) -> bool:
        """Whether a submitted text is a prompt that can be used for later tasks."""
        if text is None:
            return False
        try:
            prompt = self._read(text, typed=False)
            check_known(prompt, self.config, self.settings)
        except PromptError:
            return False
        return prompt.is_useful

    def plan(self, task: Task, sources: PromptSources, detection: DetectionSettings) -> TaskPlan:
        prompt = self._prompt_that_applies(sources)
        targets = PhraseTargets(self.config, prompt, sources, detection, self.vocabulary)
        text_threshold = sources.resolve(detection).text_threshold
        assert text_threshold is not None  # the settings always give one
        looks = self._looks(task, sources, targets, text_threshold)
        unreadable = (*(prompt.unreadable if prompt else ()), *targets.unreadable)
        if not looks:
            raise PromptError(_why_nothing(prompt, unreadable))
        return TaskPlan(
            tuple(looks),
            self._echo(prompt.text if prompt else None, sources),
            prompt.matches if prompt else (),
            unreadable,
        )

    def _looks(
        self, task: Task, sources: PromptSources, targets: PhraseTargets, text_threshold: float
    ) -> list[LookPlan]:
        looks: list[LookPlan] = []
        missing: list[str] = []
        for image in self.config.images:
            if not targets.concern(image):
                continue
            if uris := image.uris(task.data):
                if len(looks) + len(uris) > _MOST_PICTURES:
                    raise RequestError(
                        f"The task has more than {_MOST_PICTURES} pictures. Split it into several."
                    )
                if aims := targets.of(image):
                    looks += _looks(image, uris, aims, text_threshold, sources.present)
            else:
                missing.append(image.value)
        if missing and not looks:
            raise RequestError(
                f"The task has no picture address under {listed(missing)}, which the labeling "
                "config's <Image> names. Import the task with that field."
            )
        return looks

    def _prompt_that_applies(self, sources: PromptSources) -> PlannedPrompt | None:
        """What was just typed; else the strongest of the older ones that can be used."""
        if sources.context.prompt is not None:
            prompt = self._read(sources.context.prompt, typed=True)
            check_readable(prompt)
            check_known(prompt, self.config, self.settings)
            return prompt
        for text in sources.older_prompts():
            try:
                prompt = self._read(text, typed=False)
            except PromptError:
                continue  # a long text that a task brings along, which nobody meant as a prompt
            if prompt.is_useful:  # no old note, nor one from before the labels were renamed
                check_known(prompt, self.config, self.settings)
                return prompt
        return None

    def _read(self, text: str, *, typed: bool) -> PlannedPrompt:
        return read_prompt(text, self.config, self.settings, self.vocabulary, typed=typed)

    def _echo(self, prompt: str | None, sources: PromptSources) -> PromptEcho | None:
        """The prompt for the prediction: not where the annotator has just typed it, nor where it
        would hide the text area, which shows no more once it holds all the texts it may.
        """
        area = self.config.prompt_area
        if prompt is None or area is None or not area.repeatable or sources.interactive:
            return None
        return PromptEcho(area.name, area.to_name, prompt)


def _why_nothing(prompt: PlannedPrompt | None, unreadable: Sequence[str]) -> str:
    if prompt is not None and prompt.has_negatives:
        return 'The prompt leaves out all that it could look for. Take a minus sign or "not:" away.'
    return unreadable_sentence(unreadable)


def _looks(
    image: ImageObject,
    uris: Sequence[str],
    aims: Sequence[Aim],
    text_threshold: float,
    present: Sequence[PresentRegion],
) -> Iterator[LookPlan]:
    phrases, targets = zip(*aims, strict=True)
    lowest = min(target.min_score for target in targets if target is not None)
    thresholds = Thresholds(lowest, text_threshold)
    here = [region for region in present if region.to_name == image.name]
    for number, uri in enumerate(uris):
        index = number if image.many else None
        on_it = tuple(region for region in here if (region.item_index or 0) == number)
        yield LookPlan(uri, index, phrases, targets, thresholds, on_it)
