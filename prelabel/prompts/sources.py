"""The sources of a task's prompt and thresholds, and their one order of precedence.

In: a task, the context of an interactive request, the request's own prompt, the project's stored
prompts, and the task's labeling config. Out: `PromptSources`, which yields the prompts, strongest
first, and the thresholds that apply. `prelabel.pipeline` collects them; `planner` reads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

from prelabel.labelstudio.edited_annotation import edited_annotation
from prelabel.labelstudio.labeling_config import LabelingConfig
from prelabel.labelstudio.protocol import Context, Task
from prelabel.labelstudio.result_entries import (
    PointedObject,
    pointed_objects,
    prompt_request_of,
)
from prelabel.settings import DetectionSettings
from prelabel.types import PresentRegion, ProjectPrompts, PromptRequest, Thresholds

# Of one task. Each annotator has a draft of its own, and each draft is searched for a prompt.
_MOST_DRAFTS = 20
_EMPTY = PromptRequest()


@dataclass(frozen=True, slots=True)
class PromptSources:
    """Prompts and thresholds by their source. The order of the fields is the precedence.

    Attributes:
        context: Prompt and thresholds that the annotator has just typed.
        request: Prompt and thresholds for all tasks of a bulk request.
        drafts: The task's unsubmitted annotations, the newest first.
        task: The prompt that the task's data fills into the prompt's text area.
        submitted: Prompt and thresholds of the project's newest submitted annotation.
        project: The extra parameters of the project's model.
        config: The default values in the labeling config.
        interactive: True if an annotator waits for the answer.
        pointed: The objects that the annotator has just pointed at with a smart tool.
        annotation: The annotation that the annotator works on, as far as it is known.
    """

    context: PromptRequest
    request: PromptRequest = _EMPTY
    drafts: tuple[PromptRequest, ...] = ()
    task: PromptRequest = _EMPTY
    submitted: PromptRequest = _EMPTY
    project: PromptRequest = _EMPTY
    config: PromptRequest = _EMPTY
    interactive: bool = False
    pointed: tuple[PointedObject, ...] = ()
    annotation: Context | None = None

    @classmethod
    def of(
        cls,
        task: Task,
        context: Context | None,
        stored: ProjectPrompts,
        config: LabelingConfig,
        request: PromptRequest = _EMPTY,
    ) -> PromptSources:
        """Collect the sources of one task. `config` must be filled in with the task's data.

        Raises:
            RequestError: A threshold that was just typed is not a number from 0 to 1.
        """
        controls = config.prompt_controls
        entries = context.result if context else ()
        return cls(
            prompt_request_of(entries, controls),
            request,
            tuple(
                prompt_request_of(draft.result, controls, strict=False)
                for draft in task.newest_drafts[:_MOST_DRAFTS]
            ),
            PromptRequest(prompt=config.prompt_of(task.data)),
            stored.submitted,
            stored.project,
            config.thresholds,
            interactive=context is not None,
            pointed=tuple(pointed_objects(entries)),
            annotation=edited_annotation(task, context) if context else None,
        )

    @property
    def present(self) -> tuple[PresentRegion, ...]:
        """The regions that the annotation already has."""
        return self.annotation.present if self.annotation else ()

    def older_prompts(self) -> Iterator[str]:
        """Yield the prompts that were not given with the request, strongest first."""
        for request in (*self.drafts, self.task, self.submitted, self.project):
            if request.prompt is not None:
                yield request.prompt

    def thresholds(
        self, settings: DetectionSettings, score_threshold: float | None = None
    ) -> Thresholds:
        """Return the thresholds that apply, each from the strongest source that has a value.

        Args:
            settings: The service's settings; they are the weakest source.
            score_threshold: `model_score_threshold` of the label or of its control tag.
        """
        label = PromptRequest(box_threshold=score_threshold)
        given, stored = (self.context, self.request), (self.task, self.submitted, self.project)
        merged = reduce(PromptRequest.or_else, (*given, *self.drafts, *stored, label, self.config))
        box, text = merged.box_threshold, merged.text_threshold
        return Thresholds(
            settings.box_threshold if box is None else box,
            settings.text_threshold if text is None else text,
        )
