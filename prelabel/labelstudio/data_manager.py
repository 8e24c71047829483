"""Label Studio's Data Manager: tasks of a project by filters, in an order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TypeVar
from urllib.parse import urlencode

from pydantic import JsonValue, TypeAdapter

from prelabel.labelstudio.rest import LabelStudioAPI

Filter = dict[str, JsonValue]
Filters = list[Filter]

PageT = TypeVar("PageT")


class DataManagerAPI(LabelStudioAPI):
    """The part of the API that the APIs for whole projects share."""

    def task_address(self, project: int, task: int) -> str:
        """Return the address of a task's page."""
        return f"{self.address}/projects/{project}/data?task={task}"

    def _task_page(
        self,
        page: TypeAdapter[PageT],
        project: int,
        filters: Filters,
        *,
        count: int,
        ordering: str = "id",
        whole: bool = False,
    ) -> PageT:
        """Return the first tasks that fit all filters.

        Args:
            page: The parts of the answer that are wanted.
            project: The project's number.
            filters: Filters that the tasks have to fit.
            count: Greatest number of tasks.
            ordering: Column by which the tasks are ordered, lowest first.
            whole: With annotations, predictions and all columns.
        """
        query = {
            "filters": {"conjunction": "and", "items": filters},
            "ordering": [f"tasks:{ordering}"],
        }
        address = urlencode(
            {
                "project": project,
                "page": 1,
                "page_size": count,
                # Addresses of pictures as Label Studio sends them to backends.
                "resolve_uri": "false",
                "query": json.dumps(query),
                **({"fields": "all"} if whole else {}),
            }
        )
        response = self._request("GET", f"/api/tasks?{address}")
        response = self._require_success(response, f"show the tasks of project {project}")
        return self._parse(page, response)


def greater_than(column: str, value: int) -> Filter:
    """Return the filter for tasks with a greater number in a column."""
    return _filter(column, "greater", "Number", value)


def has_version(version: str) -> Filter:
    """Return the filter for tasks with a prediction of a model version."""
    # Label Studio looks for the text within the versions. Ours end with a checksum.
    return _filter("predictions_model_versions", "contains", "List", [version])


def lacks_version(version: str) -> Filter:
    """Return the filter for tasks without a prediction of a model version."""
    return _filter("predictions_model_versions", "not_contains", "List", [version])


def without_annotations() -> Filters:
    """Return the filter for tasks without annotations."""
    return [_filter("total_annotations", "equal", "Number", 0)]


def _filter(column: str, operator: str, kind: str, value: int | Sequence[str]) -> Filter:
    return {
        "filter": f"filter:tasks:{column}",
        "operator": operator,
        "type": kind,
        "value": value if isinstance(value, int) else list(value),
    }
