"""Webhook event -> the prompt and thresholds that the project's later tasks use.

In: the event that Label Studio sends when an annotation is created or updated. Out: the
`PromptRequest` that its author typed, without texts that are no prompt. The ingress stores it with
`prelabel.prompts.repository`; `sources` reads it as the project's submitted prompt.
"""

from __future__ import annotations

from dataclasses import replace

from prelabel.errors import PromptError, RequestError
from prelabel.labelstudio.labeling_config import LabelingConfig, parse_labeling_config
from prelabel.labelstudio.protocol import WebhookRequest
from prelabel.labelstudio.result_entries import prompt_request_of
from prelabel.phrases.vocabulary import Vocabulary, shipped_vocabulary
from prelabel.prompts.resolver import check_known, resolve_prompt
from prelabel.settings import PromptSettings
from prelabel.types import PromptRequest

_SUBMIT_ACTIONS = {"ANNOTATION_CREATED", "ANNOTATION_UPDATED"}


def submitted_prompt(
    event: WebhookRequest, settings: PromptSettings, vocabulary: Vocabulary | None = None
) -> PromptRequest:
    """Return the prompt and thresholds of a submitted annotation; empty for any other event.

    The prompt is None if the annotator did not type it: if the task's data or its prediction
    contain the same text. It is also None if it has no label of the project, because it is a
    comment then, or a mistake that would fail every later task.
    """
    annotation = event.annotation
    if event.action not in _SUBMIT_ACTIONS or annotation is None or annotation.was_cancelled:
        return PromptRequest()
    data = event.task.data if event.task else {}
    try:
        config = parse_labeling_config(event.label_config or "", settings.max_labels)
        config = config.for_task(data)
        task_prompt = config.prompt_of(data)
    except RequestError:
        return PromptRequest()  # a predict request with this config would fail, too
    controls = config.prompt_controls
    predicted = annotation.prediction.result if annotation.prediction else ()
    predicted_prompt = prompt_request_of(predicted, controls, strict=False).prompt
    # Label Studio changes the origin once the annotator edits an entry of the prediction.
    typed = [entry for entry in annotation.result if entry.origin != "prediction"]
    submitted = prompt_request_of(typed, controls, strict=False)
    if submitted.prompt is None or submitted.prompt in (task_prompt, predicted_prompt):
        return replace(submitted, prompt=None)
    # The thresholds of the annotation are stored in either case.
    if not _is_reusable(submitted.prompt, config, settings, vocabulary or shipped_vocabulary()):
        return replace(submitted, prompt=None)
    return submitted


def _is_reusable(
    text: str, config: LabelingConfig, settings: PromptSettings, vocabulary: Vocabulary
) -> bool:
    try:
        prompt = resolve_prompt(text, config, settings, vocabulary, typed=False)
        check_known(prompt, config, settings)
    except PromptError:
        return False
    return prompt.is_useful
