"""Label Studio's REST API for evaluations: annotated tasks by pages, and the labeling config."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import AwareDatetime, BeforeValidator, JsonValue, TypeAdapter

from prelabel.errors import LabelStudioError
from prelabel.labelstudio.box_entries import ScoredEntries
from prelabel.labelstudio.data_manager import DataManagerAPI, greater_than
from prelabel.labelstudio.http import TooLongAnswerError
from prelabel.labelstudio.rest import Identified, Project, Resource, StoredTask
from prelabel.labelstudio.result_entries import null_as_empty

_ANNOTATED = greater_than("total_annotations", 0)
_PAGE = 50  # tasks; annotations with masks are large


class StoredAnnotation(Resource):
    """An annotation. One that was skipped (`was_cancelled`) says nothing about the picture.

    Attributes:
        completed_by: The user's id.
        parent_prediction: Id of the prediction that it was made from.
    """

    id: int
    result: ScoredEntries = ()
    was_cancelled: bool = False
    completed_by: int | None = None
    updated_at: AwareDatetime
    parent_prediction: int | None = None


class StoredResult(Resource):
    """A stored prediction with its result."""

    id: int
    result: ScoredEntries = ()
    model_version: str | None = None


class AnnotatedTask(Identified):
    """A task with its annotations and predictions."""

    data: dict[str, JsonValue]
    annotations: Annotated[tuple[StoredAnnotation, ...], BeforeValidator(null_as_empty)] = ()
    predictions: Annotated[tuple[StoredResult, ...], BeforeValidator(null_as_empty)] = ()

    @property
    def submitted(self) -> tuple[StoredAnnotation, ...]:
        """The submitted annotations, newest first; of each user the newest one."""
        ordered = sorted(self.annotations, key=lambda each: (each.updated_at, each.id))
        newest = {each.completed_by: each for each in ordered if not each.was_cancelled}
        return tuple(
            sorted(newest.values(), key=lambda each: (each.updated_at, each.id), reverse=True)
        )

    def prediction(self, version: str) -> StoredResult | None:
        """Return the newest prediction of a model version."""
        found = [each for each in self.predictions if each.model_version == version]
        return max(found, key=lambda each: each.id, default=None)

    @property
    def stored_task(self) -> StoredTask:
        """The task in the form in which Label Studio sends it to backends."""
        return StoredTask(self.id, {"id": self.id, "data": self.data})


class _Page(Resource):
    tasks: list[AnnotatedTask]


class _Count(Resource):
    total: int


class EvaluationAPI(DataManagerAPI):
    """The part of the API for evaluations. Its methods raise what `LabelStudioAPI` says."""

    def count_annotated(self, project: int) -> int:
        """Return the number of tasks with submitted annotations."""
        page = TypeAdapter(_Count)
        return self._task_page(page, project, [_ANNOTATED], count=1).total

    def annotated_tasks(self, project: int) -> Iterator[list[AnnotatedTask]]:
        """Yield the tasks with submitted annotations, page by page, in the order of their ids."""
        after, count = 0, _PAGE
        while True:
            try:
                page = self._page(project, after, count)
            except TooLongAnswerError:
                if count == 1:
                    raise
                count = max(1, count // 4)
                continue
            if not page:
                return
            yield page
            after = page[-1].id

    def set_label_config(self, project: Project, xml: str) -> Project:
        """Change a project's labeling config. Return the project as it is then."""
        response = self._request("PATCH", f"/api/projects/{project.id}/", {"label_config": xml})
        if response.status == 400:
            raise LabelStudioError(
                f"Label Studio does not take the labeling config ({response.short_message}). "
                "Nothing was changed."
            )
        response = self._require_success(response, "change the labeling config")
        return self._parse(TypeAdapter(Project), response)

    def _page(self, project: int, after: int, count: int) -> list[AnnotatedTask]:
        filters = [greater_than("id", after), _ANNOTATED]
        page = self._task_page(TypeAdapter(_Page), project, filters, count=count, whole=True)
        return page.tasks
