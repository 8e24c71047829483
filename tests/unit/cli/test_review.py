"""`prelabel review` against a fake Label Studio."""

from __future__ import annotations

import io
import json
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr
from rich.console import Console

from prelabel.cli.review import ReviewOptions, review
from prelabel.cli.service_client import ServiceClient, ServiceUnreachableError
from prelabel.errors import LabelStudioError
from prelabel.net.egress import Egress
from prelabel.projects.journal import RunJournal
from prelabel.settings import Environment
from tests.support.fake_label_studio import LabelStudio, RefusedError, running
from tests.support.http_server import Received

VERSION = "demo-0123456789"
CLIENT = ServiceClient("http://127.0.0.1:1", None, Egress.plain())  # nothing listens there


@dataclass
class ScoredLabelStudio(LabelStudio):
    """Shows scores of the model version that the project shows, as 1.23.2 does."""

    scores: dict[int, float] = field(default_factory=dict)

    def _answer(self, received: Received) -> tuple[int, Any]:
        url = urlsplit(received.path)
        if url.path == "/api/tasks":
            query = parse_qs(url.query)
            asked = json.loads(query["query"][0])
            assert asked["ordering"] == ["tasks:predictions_score"]
            assert asked["filters"]["items"][0]["value"] == [VERSION]
            is_shown = self.project["model_version"] == VERSION
            ordered = sorted(self.scores, key=lambda task: self.scores[task] if is_shown else 0)
            tasks = [
                {"id": task, "predictions_score": self.scores[task] if is_shown else None}
                for task in ordered[: int(query["page_size"][0])]
            ]
            return 200, {"tasks": tasks, "total": len(self.scores)}
        if received.method == "PATCH" and not self.scores:
            raise RefusedError(400, "Model version doesn't exist")
        return super()._answer(received)


def output(studio: ScoredLabelStudio, *, apply: bool, version: str | None = VERSION) -> str:
    written = io.StringIO()
    with running(studio) as server:
        environment = Environment(
            LABEL_STUDIO_HOST=server.url, LABEL_STUDIO_ACCESS_TOKEN=SecretStr(studio.token)
        )
        console = Console(file=written, width=120)
        review(
            ReviewOptions(3, version, apply, look_alikes=False, journal=None),
            CLIENT,
            environment,
            console,
        )
    return written.getvalue()


def test_the_order_is_shown_and_changed_on_request_only() -> None:
    studio = ScoredLabelStudio(
        project={"sampling": "Sequential sampling", "model_version": "prelabel"},
        scores={task: 1 - task / 100 for task in range(1, 31)},
    )
    shown = output(studio, apply=False)
    assert "30 tasks with predictions of demo-0123456789." in shown
    assert "by Sequential sampling, and shows the predictions of prelabel." in shown
    assert studio.project["model_version"] == "prelabel"

    applied = output(studio, apply=True)
    assert studio.project["sampling"] == "Uncertainty sampling"
    assert studio.project["model_version"] == VERSION
    rows = [line for line in applied.splitlines() if "/projects/3/data?task=" in line]
    assert len(rows) == 10
    assert rows[0].endswith("task=30")
    assert "0.700" in rows[0]
    assert "Annotators get the tasks with the lowest scores first" in output(studio, apply=False)


def test_a_project_without_predictions_is_told_to_be_annotated() -> None:
    with pytest.raises(LabelStudioError, match="Run prelabel annotate --project 3 first"):
        output(ScoredLabelStudio(), apply=True)


def test_the_model_version_is_the_service_s_unless_it_is_given() -> None:
    with pytest.raises(ServiceUnreachableError):
        output(ScoredLabelStudio(scores={1: 0.5}), apply=False, version=None)


def test_look_alikes_are_listed_from_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    with closing(RunJournal(path)) as journal:
        one, two, other = 0xF0F0F0F0F0F0F0F0, 0x00FF00FF00FF00FF, 0x123456789ABCDEF0
        journal.note_pictures({5: [one], 9: [one + 1], 7: [other], 8: [two, two - 1]})
    written = io.StringIO()
    environment = Environment(
        LABEL_STUDIO_HOST="http://127.0.0.1:1", LABEL_STUDIO_ACCESS_TOKEN=SecretStr("0" * 40)
    )
    options = ReviewOptions(3, VERSION, apply=False, look_alikes=True, journal=path)
    review(options, CLIENT, environment, Console(file=written, width=120))
    assert written.getvalue().splitlines() == [
        "tasks 5, 9",
        "task 8: 2 of its pictures look alike",
        f"2 groups in 5 pictures ({path}).",
    ]
