"""A fake Label Studio whose tasks have annotations and predictions, as 1.23.2 lists them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.support.fake_label_studio import Json, RefusedError
from tests.support.fake_projects import ProjectLabelStudio

WH = (640, 480)


@dataclass
class AnnotatedLabelStudio(ProjectLabelStudio):
    """Its annotations and predictions are those of Data Manager's API with `fields=all`.

    Attributes:
        annotations: The annotations of tasks.
        refuses_config: The reason for which it takes no labeling config; empty if it takes it.
    """

    annotations: dict[int, list[Json]] = field(default_factory=dict)
    refuses_config: str = ""

    def _page(self, query: dict[str, list[str]]) -> Json:
        page = super()._page(query)
        if query.get("fields") == ["all"]:
            for task in page["tasks"]:
                task["annotations"] = self.annotations.get(task["id"], [])
                task["predictions"] = [p for p in self.stored if p["task"] == task["id"]]
        return page

    def _fitting(self, tasks: list[int], each: Json) -> list[int]:
        if each["filter"] == "filter:tasks:total_annotations" and each["operator"] == "greater":
            return [
                task
                for task in tasks
                if sum(not a["was_cancelled"] for a in self.annotations.get(task, []))
                > each["value"]
            ]
        return super()._fitting(tasks, each)

    def _of_project(self, number: int, tasks: bool, method: str, sent: Json) -> object:
        if method == "PATCH" and self.refuses_config:
            raise RefusedError(400, "Validation error", {"label_config": [self.refuses_config]})
        return super()._of_project(number, tasks, method, sent)

    def annotate(
        self, task: int, regions: Sequence[Json], *, user: int = 1, at: int = 1, **more: object
    ) -> None:
        """Submit an annotation of a task, in the minute `at`."""
        self.annotations.setdefault(task, []).append(
            {
                "id": 1000 * task + at,
                "result": list(regions),
                "was_cancelled": False,
                "completed_by": user,
                "updated_at": f"2026-11-22T12:{at:02}:00.000000Z",
                "parent_prediction": None,
                **more,
            }
        )

    def predict(self, task: int, regions: Sequence[Json], version: str) -> int:
        """Store a prediction; return its id."""
        number = len(self.stored) + 1
        self.stored.append(
            {"id": number, "task": task, "result": list(regions), "model_version": version}
        )
        return number


def region(
    label: str | None,
    xyxy: Sequence[float],
    *,
    score: float | None = None,
    number: str = "r1",
    kind: str = "rectanglelabels",
    **more: object,
) -> Json:
    """Return a box in pixels of a picture of WH as the entry of a result."""
    left, top, right, bottom = xyxy
    value = {
        "x": left / WH[0] * 100,
        "y": top / WH[1] * 100,
        "width": (right - left) / WH[0] * 100,
        "height": (bottom - top) / WH[1] * 100,
        "rotation": 0,
    }
    entry: Json = {
        "id": number,
        "from_name": "label",
        "to_name": "image",
        "type": kind,
        "original_width": WH[0],
        "original_height": WH[1],
        "image_rotation": 0,
        "value": value if label is None else {**value, kind: [label]},
        **more,
    }
    return entry if score is None else {**entry, "score": score}
