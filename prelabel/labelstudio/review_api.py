"""Label Studio's REST API for the order in which annotators get the tasks of a project."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from pydantic import JsonValue, TypeAdapter

from prelabel.errors import LabelStudioError
from prelabel.labelstudio.rest import LabelStudioAPI, Resource

# Label Studio's name for: the lowest score of a prediction first.
BY_SCORE: Final = "Uncertainty sampling"


@dataclass(frozen=True, slots=True)
class ScoredTask:
    """A task with the score of its prediction."""

    task: int
    score: float


class TaskOrder(Resource):
    """The order in which Label Studio hands out the tasks of a project.

    Attributes:
        sampling: Name of the order.
        model_version: The predictions whose scores count, and which annotators see.
    """

    sampling: str = ""
    model_version: str | None = None


class _Task(Resource):
    id: int
    predictions_score: float | None = None


class _Page(Resource):
    tasks: list[_Task]
    total: int = 0


class ReviewAPI(LabelStudioAPI):
    """The part of the API for the order of tasks. Its methods raise what `LabelStudioAPI` says."""

    def task_order(self, project: int) -> TaskOrder:
        """Return the order of a project."""
        response = self._request("GET", f"/api/projects/{project}/")
        response = self._require_success(response, f"show project {project}")
        return self._parse(TypeAdapter(TaskOrder), response)

    def hand_out_by_score(self, project: int, version: str) -> None:
        """Let Label Studio hand out the tasks with the lowest scores of a model version first.

        Label Studio counts the scores of the predictions that annotators see, which are one model
        version's. With the title of a connected backend in place of a version it counts none.
        """
        body: dict[str, JsonValue] = {"sampling": BY_SCORE, "model_version": version}
        response = self._request("PATCH", f"/api/projects/{project}/", body)
        if response.status == 400:
            raise LabelStudioError(
                f"Project {project} has no predictions of {version} yet. Run prelabel annotate "
                f"--project {project} first."
            )
        self._require_success(response, "change the order of the tasks")

    def count_predicted(self, project: int, version: str) -> int:
        """Return the number of tasks with a prediction of a model version."""
        return self._page(project, version, count=1).total

    def lowest_scores(self, project: int, version: str, count: int) -> list[ScoredTask]:
        """Return the tasks with the lowest scores, lowest first.

        They are known only after `hand_out_by_score`.
        """
        return [
            ScoredTask(task.id, task.predictions_score)
            for task in self._page(project, version, count=count).tasks
            if task.predictions_score is not None
        ]

    def _page(self, project: int, version: str, *, count: int) -> _Page:
        of_version: dict[str, JsonValue] = {
            "filter": "filter:tasks:predictions_model_versions",
            "operator": "contains",
            "type": "List",
            "value": [version],
        }
        query: dict[str, JsonValue] = {
            "filters": {"conjunction": "and", "items": [of_version]},
            "ordering": ["tasks:predictions_score"],
        }
        address = urlencode(
            {
                "project": project,
                "page": 1,
                "page_size": count,
                "fields": "all",
                "query": json.dumps(query),
            }
        )
        response = self._request("GET", f"/api/tasks?{address}")
        response = self._require_success(response, f"show the tasks of project {project}")
        return self._parse(TypeAdapter(_Page), response)
