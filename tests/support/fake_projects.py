"""A fake Label Studio with the API for whole projects, which can be out of order."""

from __future__ import annotations

import json
import threading
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.fake_label_studio import Json, LabelStudio, RefusedError
from tests.support.http_server import Exchange, Received


@dataclass
class ProjectLabelStudio(LabelStudio):
    """Its tasks are `task_ids`; it stores predictions as 1.23.2 does.

    Attributes:
        images: The address of a task's picture; empty for other tasks.
        leaves_out: Tasks whose predictions it does not store, while it answers 201.
        unknown: Tasks that it lists and does not know when predictions are stored.
        is_silent: It hangs up on every request.
        loses_answers: Number of imports that it does, and hangs up instead of answering.
        lists_predictions: Pages of tasks have the tasks' predictions if all fields are asked for.
        keeps_results: False stores predictions without their regions.
        views: Filters of the Data Manager's tabs, each with a conjunction.
    """

    task_ids: list[int] = field(default_factory=list)
    images: dict[int, str] = field(default_factory=dict)
    annotated: set[int] = field(default_factory=set)
    leaves_out: set[int] = field(default_factory=set)
    unknown: set[int] = field(default_factory=set)
    is_silent: bool = False
    loses_answers: int = 0
    lists_predictions: bool = True
    keeps_results: bool = True
    views: dict[int, Json] = field(default_factory=dict)
    stored: list[Json] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._lock = threading.Lock()
        self._newest = 0

    def counts(self, version: str) -> Counter[int]:
        """Return the number of predictions of a version for each task that has one."""
        return Counter(p["task"] for p in self.stored if p["model_version"] == version)

    def respond(self, exchange: Exchange, received: Received) -> None:
        if self.is_silent:
            return
        super().respond(exchange, received)

    def _answer(self, received: Received) -> tuple[int, Any]:
        url = urlsplit(received.path)
        query = parse_qs(url.query)
        with self._lock:
            if url.path == "/api/tasks":
                return 200, self._page(query)
            if url.path == f"/api/projects/{self.project['id']}/import/predictions":
                return self._import(json.loads(received.body))
            if url.path == f"/api/projects/{self.project['id']}/model-versions/":
                return 200, self._versions(received.method, json.loads(received.body or b"{}"))
            if url.path == "/api/predictions/":
                return 200, [p for p in self.stored if p["task"] == int(query["task"][0])]
            if url.path.startswith("/api/predictions/"):
                number = int(url.path.split("/")[3])
                self.stored = [p for p in self.stored if p["id"] != number]
                return 204, None
            if url.path.startswith("/api/dm/views/"):
                number = int(url.path.split("/")[4])
                if number not in self.views:
                    raise RefusedError(404, "No View matches the given query.")
                return 200, {"id": number, "project": 3, "data": {"filters": self.views[number]}}
        return super()._answer(received)

    def _page(self, query: dict[str, list[str]]) -> Json:
        asked = json.loads(query["query"][0])
        assert query["project"] == [str(self.project["id"])]
        assert asked["ordering"] == ["tasks:id"]
        found = sorted(self.task_ids)
        for each in asked["filters"]["items"]:
            found = self._fitting(found, each)
        shown = found[: int(query["page_size"][0])]
        tasks: list[Json] = [
            {"id": task, "data": {"image": self.images.get(task, "")}} for task in shown
        ]
        if self.lists_predictions and query.get("fields") == ["all"]:
            listed: dict[int, list[Json]] = {task: [] for task in shown}
            for prediction in self.stored:
                if prediction["task"] in listed:
                    listed[prediction["task"]].append(prediction)
            for task in tasks:
                task["predictions"] = listed[task["id"]]
        return {"tasks": tasks, "total": len(found), "total_annotations": 0}

    def _fitting(self, tasks: list[int], each: Json) -> list[int]:
        column = each["filter"].removeprefix("filter:tasks:")
        if column == "id":
            assert each["operator"] == "greater"
            return tasks[bisect_right(tasks, each["value"]) :]
        if column == "total_annotations":
            return [task for task in tasks if task not in self.annotated]
        assert column == "predictions_model_versions"
        [version] = each["value"]
        predicted = Counter(p["task"] for p in self.stored if version in p["model_version"])
        if each["operator"] == "not_contains":
            return [task for task in tasks if task not in predicted]
        assert each["operator"] == "contains"
        # The database joins both tables, and finds a task once for each of its predictions.
        return [task for task in tasks for _ in range(predicted[task])]

    def _versions(self, method: str, sent: Json) -> Json:
        if method == "GET":
            return Counter(p["model_version"] for p in self.stored)
        assert method == "DELETE"
        left = [p for p in self.stored if p["model_version"] != sent["model_version"]]
        count, self.stored = len(self.stored) - len(left), left
        return {"deleted_predictions": count}

    def _import(self, sent: list[Json]) -> tuple[int, Any]:
        if strangers := [p["task"] for p in sent if p["task"] in self.unknown]:
            raise RefusedError(400, f"task ID {strangers[0]} not found in project")
        taken = [p for p in sent if p["task"] not in self.leaves_out]
        for prediction in taken:
            self._newest = max(self._newest, *(p["id"] for p in self.stored[-1:]), 0) + 1
            kept = prediction if self.keeps_results else prediction | {"result": []}
            self.stored.append({"id": self._newest, **kept})
        if self.loses_answers:
            self.loses_answers -= 1
            raise ConnectionResetError
        return 201, {"created": len(taken)}
