"""Label Studio's REST API for the order in which annotators get the tasks of a project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue, TypeAdapter

from prelabel.errors import LabelStudioError
from prelabel.labelstudio.data_manager import DataManagerAPI, has_version
from prelabel.labelstudio.rest import Identified, Resource

# Label Studio's name for: the lowest score of a prediction first.
BY_SCORE: Final = "Uncertainty sampling"


@dataclass(frozen=True, slots=True)
class ScoredTask:
    """A task with the score of its prediction."""

    task: int
    score: float


class _Task(Identified):
    predictions_score: float | None = None


class _Page(Resource):
    tasks: list[_Task]
    total: int = 0


class ReviewAPI(DataManagerAPI):
    """The part of the API for the order of tasks. Its methods raise what `LabelStudioAPI` says."""

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
        return self._task_page(
            TypeAdapter(_Page),
            project,
            [has_version(version)],
            count=count,
            ordering="predictions_score",
            whole=True,
        )
