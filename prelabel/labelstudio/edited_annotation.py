"""The annotation that an annotator typed a prompt in, as far as Label Studio has stored it.

In: a task with its drafts and annotations, and the context of an interactive request. Out: the
annotation's entries. The context of a typed prompt contains the prompt and none of the regions on
the page; the page stores these as a draft, within five seconds of a change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress

from pydantic import ValidationError

from prelabel.labelstudio.protocol import Context, Draft, Task
from prelabel.labelstudio.result_entries import ResultEntry


def edited_annotation(task: Task, context: Context) -> Context:
    """Return the context with the stored entries of the annotation that its prompt is part of.

    That annotation has an entry with the id of the prompt. Of several, the newest draft counts.
    Without one, such as at an annotation's first prompt, the context is returned as it is.
    """
    own = {entry.id for entry in context.result if entry.id is not None}
    texts = {entry.id for entry in context.result if entry.type == "textarea"} & own
    for entries in _stored_annotations(task, texts) if texts else ():
        if any(entry.id in texts for entry in entries):
            rest = (entry for entry in entries if entry.id not in own)
            return Context.model_construct(result=(*context.result, *rest))
    return context


def _stored_annotations(
    task: Task, ids: Collection[str | None]
) -> Iterator[tuple[ResultEntry, ...]]:
    """Yield the entries of the drafts, then of the submitted annotations with one of the ids."""
    for draft in task.newest_drafts:
        yield draft.result
    for annotation in task.annotations:
        # Parsed only if it is the one, because annotations may have megabytes of masks.
        if any(each in ids for each in _ids_of(annotation)):
            with suppress(ValidationError):
                yield Draft.model_validate(annotation).result


def _ids_of(annotation: object) -> Iterator[str]:
    entries = annotation.get("result") if isinstance(annotation, dict) else None
    for entry in entries if isinstance(entries, list) else ():
        entry_id = entry.get("id") if isinstance(entry, dict) else None
        if isinstance(entry_id, str):
            yield entry_id
