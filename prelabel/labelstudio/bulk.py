"""Label Studio's REST API for whole projects: tasks by pages, predictions in bulk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from pydantic import Field, JsonValue, TypeAdapter

from prelabel.errors import LabelStudioError
from prelabel.labelstudio.data_manager import (
    DataManagerAPI,
    Filters,
    greater_than,
    has_version,
    lacks_version,
)
from prelabel.labelstudio.http import TooLongAnswerError
from prelabel.labelstudio.responses import Prediction
from prelabel.labelstudio.rest import (
    Identified,
    Resource,
    StoredPrediction,
    StoredTask,
)


class RefusedPredictionsError(LabelStudioError):
    """Label Studio stored none of the predictions, because of at least one of them."""


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Tasks in the order of their ids.

    remaining: Number of tasks that fit the question, with those of this page.
    """

    tasks: list[StoredTask]
    remaining: int


class _Task(Identified):
    data: dict[str, JsonValue]
    # Only sent on request, and not by all versions of Label Studio.
    predictions: tuple[StoredPrediction, ...] | None = None


class _Page(Resource):
    tasks: list[_Task]
    total: int


class _FilterGroup(Resource):
    conjunction: str = "and"
    items: Filters = Field(default_factory=list)


class _ViewContent(Resource):
    filters: _FilterGroup | None = None


class _View(Resource):
    project: int
    data: _ViewContent = _ViewContent()


class _Created(Resource):
    created: int


class _Removed(Resource):
    deleted_predictions: int


class BulkAPI(DataManagerAPI):
    """The part of the API for whole projects. Its methods raise what `LabelStudioAPI` says."""

    _largest_page = 1_000  # tasks; less once an answer was too long

    def view_filters(self, project: int, view: int) -> Filters:
        """Return the filters of a tab of the Data Manager, which all have to hold."""
        response = self._request("GET", f"/api/dm/views/{view}/")
        if response.status in (403, 404):
            raise LabelStudioError(
                f"Label Studio shows the token's user no tab {view}. Take the number from the "
                "tab's address, ?tab=NUMBER."
            )
        response = self._require_success(response, f"show the tab {view}")
        found = self._parse(TypeAdapter(_View), response)
        if found.project != project:
            raise LabelStudioError(
                f"The tab {view} is one of project {found.project}. Give --project "
                f"{found.project}, or a tab of project {project}."
            )
        group = found.data.filters or _FilterGroup()
        if group.conjunction != "and" and len(group.items) > 1:
            raise LabelStudioError(
                f"The filters of tab {view} are joined by OR. Make a tab for each of them, and "
                "run the command for each."
            )
        return group.items

    def tasks_without(
        self, project: int, version: str, *, after: int, count: int, filters: Filters
    ) -> TaskPage:
        """Return the first tasks that have no prediction of a version.

        Pages by id stay complete while predictions are added, as pages by number would not.

        Args:
            project: The project's number.
            version: The model version.
            after: Tasks with greater ids only.
            count: Greatest number of tasks.
            filters: Further filters of the Data Manager.
        """
        return self._page(project, after, count, [lacks_version(version), *filters])

    def tasks_with(
        self,
        project: int,
        version: str,
        *,
        after: int,
        count: int,
        filters: Filters,
        without: str | None = None,
    ) -> TaskPage:
        """Return the first tasks that have a prediction of a version, each with its predictions.

        Args:
            project: The project's number.
            version: The model version.
            after: Tasks with greater ids only.
            count: Greatest number of tasks.
            filters: Further filters of the Data Manager.
            without: Only tasks that have no prediction of this version.
        """
        lacks = [] if without is None else [lacks_version(without)]
        page = self._page(
            project, after, count, [has_version(version), *lacks, *filters], with_predictions=True
        )
        return self._complete(page)

    def tasks_of(self, project: int, *, after: int, count: int, filters: Filters) -> TaskPage:
        """Return the first tasks, each with its predictions; the arguments as in `tasks_with`."""
        return self._complete(self._page(project, after, count, filters, with_predictions=True))

    def _complete(self, page: TaskPage) -> TaskPage:
        """Return the page's tasks with their predictions, asked for one by one where they lack."""
        tasks = [
            task
            if task.predictions is not None
            else replace(task, predictions=tuple(self.predictions_of(task.id)))
            for task in page.tasks
        ]
        return TaskPage(tasks, page.remaining)

    def _page(
        self,
        project: int,
        after: int,
        count: int,
        filters: Filters,
        *,
        with_predictions: bool = False,
    ) -> TaskPage:
        """Return a page; of fewer tasks if an answer with all their predictions is too long."""
        count = min(count, self._largest_page)
        try:
            return self._whole_page(project, after, count, filters, with_predictions)
        except TooLongAnswerError:
            if count == 1:
                raise
            self._largest_page = count // 2
            return self._page(project, after, count, filters, with_predictions=with_predictions)

    def _whole_page(
        self, project: int, after: int, count: int, filters: Filters, with_predictions: bool
    ) -> TaskPage:
        page = self._task_page(
            TypeAdapter(_Page),
            project,
            [greater_than("id", after), *filters],
            count=count,
            whole=with_predictions,
        )
        # By id, because a filter for predictions may find a task once for each of them.
        tasks = {
            task.id: StoredTask(task.id, {"id": task.id, "data": task.data}, task.predictions)
            for task in page.tasks
        }
        return TaskPage(list(tasks.values()), page.total)

    def add_predictions(self, project: int, predictions: Mapping[int, Prediction]) -> int:
        """Store predictions of tasks. Return how many were stored: invalid ones are left out.

        Raises:
            RefusedPredictionsError: Nothing is stored. A task is not in the project, for example.
            LabelStudioError: It is not known if anything is stored.
        """
        body: list[JsonValue] = [
            {
                "task": task,
                "result": cast("JsonValue", prediction["result"]),
                "score": prediction["score"],
                "model_version": prediction["model_version"],
            }
            for task, prediction in predictions.items()
        ]
        response = self._request("POST", f"/api/projects/{project}/import/predictions", body)
        if response.status in (400, 404, 413):
            raise RefusedPredictionsError(
                f"Label Studio does not store the predictions ({response.short_message})."
            )
        response = self._require_success(response, "store predictions")
        return self._parse(TypeAdapter(_Created), response).created

    def predictions_of(self, task: int) -> list[StoredPrediction]:
        """Return the predictions of a task, oldest first."""
        response = self._request("GET", f"/api/predictions/?task={task}")
        response = self._require_success(response, f"show the predictions of task {task}")
        found = self._parse(TypeAdapter(list[StoredPrediction]), response)
        return sorted(found, key=lambda prediction: prediction.id)

    def model_versions(self, project: int) -> dict[str, int]:
        """Return the number of predictions of a project by their model version."""
        response = self._request("GET", f"/api/projects/{project}/model-versions/")
        response = self._require_success(response, f"show the predictions of project {project}")
        return self._parse(TypeAdapter(dict[str, int]), response)

    def remove_version(self, project: int, version: str) -> int:
        """Remove all predictions of a model version from a project. Return their number."""
        path = f"/api/projects/{project}/model-versions/"
        response = self._request("DELETE", path, {"model_version": version})
        response = self._require_success(response, f"remove the predictions of {version}")
        return self._parse(TypeAdapter(_Removed), response).deleted_predictions

    def remove_prediction(self, prediction: int) -> None:
        """Remove one prediction. It is no fault if it is gone."""
        response = self._request("DELETE", f"/api/predictions/{prediction}/")
        if response.status != 404:
            self._require_success(response, f"remove the prediction {prediction}")
