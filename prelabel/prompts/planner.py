"""Task, labeling config, prompt sources and settings -> the plan of the task's looks.

The pipeline calls `plan_task` for each task. In: the task, its labeling config filled in,
and the sources of prompt and thresholds. Out: a `TaskPlan` with one look for each picture (address,
phrases, the label of each phrase, thresholds), the prompt to echo, and the match of each phrase.
`resolver` resolves the prompt and `targets` the searches of each picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from prelabel.errors import PromptError, RequestError
from prelabel.labelstudio.labeling_config import ImageObject, LabelingConfig
from prelabel.labelstudio.protocol import Task
from prelabel.labelstudio.result_entries import PointedObject
from prelabel.phrases.vocabulary import Vocabulary, shipped_vocabulary
from prelabel.prompts.clicks import are_segmented, prompted_objects
from prelabel.prompts.messages import NO_SEGMENTER, ONLY_NEGATIVES, quoted_names, unreadable_message
from prelabel.prompts.resolver import ResolvedPrompt, check_known, check_readable, resolve_prompt
from prelabel.prompts.sources import PromptSources
from prelabel.prompts.targets import PhraseTarget, PhraseTargets
from prelabel.settings import AppSettings, DetectionSettings, PromptSettings
from prelabel.types import (
    LookPlan,
    PresentRegion,
    PromptEcho,
    PromptedObject,
    TaskPlan,
    Thresholds,
)

_MOST_PICTURES = 1_000  # of one task
_NO_THRESHOLDS = Thresholds(0.0, 0.0)


def plan_task(
    task: Task,
    config: LabelingConfig,
    sources: PromptSources,
    settings: AppSettings,
    vocabulary: Vocabulary | None = None,
) -> TaskPlan:
    """Plan one look for each picture of the task that has a label to look for.

    Args:
        task: The task.
        config: The labeling config, filled in with the task's data.
        sources: The prompts and thresholds that may apply.
        settings: The service's settings.
        vocabulary: The words that the model can read; BERT's if None.

    Raises:
        PromptError: The prompt and the labels leave nothing to look for.
        RequestError: The task has none of the pictures, or too many.
    """
    planner = _Planner(config, settings.prompts, vocabulary or shipped_vocabulary())
    return planner.plan(task, sources, settings.detection)


@dataclass(frozen=True, slots=True)
class _Planner:
    """Plans the tasks of one labeling config."""

    config: LabelingConfig
    settings: PromptSettings
    vocabulary: Vocabulary

    def plan(self, task: Task, sources: PromptSources, detection: DetectionSettings) -> TaskPlan:
        if sources.context.prompt is None and are_segmented(self.config, sources.pointed):
            return TaskPlan(tuple(self._looks_at_objects(task, sources.pointed)))
        prompt = self._effective_prompt(sources)
        targets = PhraseTargets(self.config, prompt, sources, detection, self.vocabulary)
        looks = self._looks(task, sources, targets, sources.thresholds(detection).text)
        unreadable = (*(prompt.unreadable if prompt else ()), *targets.unreadable)
        if not looks:
            excludes_all = prompt is not None and prompt.has_negatives
            raise PromptError(ONLY_NEGATIVES if excludes_all else unreadable_message(unreadable))
        return TaskPlan(
            tuple(looks),
            self._echo(prompt.text if prompt else None, sources),
            prompt.matches if prompt else (),
            unreadable,
            (NO_SEGMENTER,) if self.config.lacks_segmenter else (),
        )

    def _looks_at_objects(self, task: Task, pointed: Sequence[PointedObject]) -> Iterator[LookPlan]:
        """Yield a look for each picture that has objects to segment."""
        for image in self.config.images:
            by_picture: dict[int, list[PromptedObject]] = {}
            for index, each in prompted_objects(self.config, pointed, image):
                by_picture.setdefault(index or 0, []).append(each)
            uris = image.uris(task.data) if by_picture else ()
            for number, objects in sorted(by_picture.items()):
                if number >= len(uris):
                    raise RequestError(
                        f"The click is on picture {number + 1} of {image.name!r}, of which the "
                        f"task has {len(uris)}. Reload the task."
                    )
                index = number if image.is_list else None
                yield LookPlan(uris[number], index, (), (), _NO_THRESHOLDS, objects=tuple(objects))

    def _looks(
        self, task: Task, sources: PromptSources, targets: PhraseTargets, text_threshold: float
    ) -> list[LookPlan]:
        looks: list[LookPlan] = []
        missing_fields: list[str] = []
        for image in self.config.images:
            # Checked first, because a task need not have pictures on which nothing is searched for.
            if not targets.has_searches(image):
                continue
            if uris := image.uris(task.data):
                if len(looks) + len(uris) > _MOST_PICTURES:
                    raise RequestError(
                        f"The task has more than {_MOST_PICTURES} pictures. Split it into several."
                    )
                if phrase_targets := targets.for_image(image):
                    looks += _looks_of_image(
                        image, uris, phrase_targets, text_threshold, sources.present
                    )
            else:
                missing_fields.append(image.value)
        if missing_fields and not looks:
            raise RequestError(
                f"The task has no picture address under {quoted_names(missing_fields)}, which the "
                "labeling config's <Image> names. Import the task with that field."
            )
        return looks

    def _effective_prompt(self, sources: PromptSources) -> ResolvedPrompt | None:
        """Return the prompt of the request; else the strongest older prompt that is useful."""
        typed = sources.context.prompt is not None
        given = sources.context.prompt if typed else sources.request.prompt
        if given is not None:
            prompt = self._resolve(given, typed=typed, is_prompt=True)
            check_readable(prompt)
            check_known(prompt, self.config, self.settings)
            return prompt
        for text in sources.older_prompts():
            try:
                prompt = self._resolve(text, typed=False)
            except PromptError:
                continue  # too long: a text of the task's data that is no prompt
            # Prompts without any label are old comments, or older than the present labels.
            if prompt.is_useful:
                check_known(prompt, self.config, self.settings)
                return prompt
        return None

    def _resolve(self, text: str, *, typed: bool, is_prompt: bool = False) -> ResolvedPrompt:
        return resolve_prompt(
            text, self.config, self.settings, self.vocabulary, typed=typed, is_prompt=is_prompt
        )

    def _echo(self, prompt: str | None, sources: PromptSources) -> PromptEcho | None:
        """Return the prompt for the prediction, unless an annotator has just typed it.

        Label Studio hides a text area that holds as many texts as it may. So the prompt is not
        echoed into a text area for a single text, because annotators could not type another text.
        """
        area = self.config.prompt_area
        if prompt is None or area is None or not area.repeatable or sources.interactive:
            return None
        return PromptEcho(area.name, area.to_name, prompt)


def _looks_of_image(
    image: ImageObject,
    uris: Sequence[str],
    phrase_targets: Sequence[PhraseTarget],
    text_threshold: float,
    present: Sequence[PresentRegion],
) -> Iterator[LookPlan]:
    phrases, targets = zip(*phrase_targets, strict=True)
    # The detector applies the lowest threshold; each target applies its own afterwards.
    lowest = min(target.min_score for target in targets if target is not None)
    thresholds = Thresholds(lowest, text_threshold)
    on_image = [region for region in present if region.to_name == image.name]
    for number, uri in enumerate(uris):
        index = number if image.is_list else None
        on_picture = tuple(region for region in on_image if (region.item_index or 0) == number)
        yield LookPlan(uri, index, phrases, targets, thresholds, on_picture)
