"""The regions on an annotator's page, of which the context of a typed prompt has none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from prelabel.labelstudio.edited_annotation import edited_annotation
from prelabel.labelstudio.protocol import Context, PredictRequest, Task
from tests.support.paths import ROOT
from tests.support.result_entries import labelled_box, typed

CAPTURE = ROOT / "tests/captures/11_predict_interactive_real_ui_edited_prompt_newline.json"
PROMPT = {"id": "p", **typed("cat . dog")}


def box(label: str) -> dict[str, Any]:
    return labelled_box(label, id="b")


def draft(*entries: dict[str, Any], day: int = 1) -> dict[str, Any]:
    return {"result": list(entries), "updated_at": f"2026-01-{day:02d}T00:00:00Z"}


def labels(context: list[dict[str, Any]], **stored: Any) -> list[str | None]:
    """Return the labels of the regions that count as present."""
    task = Task.model_validate({"data": {}, **stored})
    typed_in = Context.model_validate({"result": context})
    return [region.label for region in edited_annotation(task, typed_in).present]


def test_the_draft_of_a_recorded_request_has_the_boxes_of_the_earlier_prompt() -> None:
    request = PredictRequest.model_validate(json.loads(CAPTURE.read_text())["json"])
    [task] = request.tasks
    assert isinstance(task, Task)
    assert request.context
    assert request.context.present == ()
    edited = edited_annotation(task, request.context)
    assert [region.label for region in edited.present] == ["cats", "house"]


def test_the_newest_draft_with_the_prompt_counts_before_a_submitted_annotation() -> None:
    older = {"id": "p", **typed("cat")}
    drafts = [draft(older, box("old")), draft(older, box("new"), day=2), draft(box("no"), day=3)]
    annotations = [{"result": [older, box("submitted")]}]
    assert labels([PROMPT], drafts=drafts, annotations=annotations) == ["new"]
    assert labels([PROMPT], annotations=annotations) == ["submitted"]


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"drafts": [draft({"id": "other", **typed("cat . dog")}, box("cat"))]},
        {"drafts": [draft(typed("cat . dog"), box("cat"))]},
        {"annotations": [{"result": [box("cat")]}]},
        {"annotations": None},
        {"annotations": "none"},
        {"annotations": [None, {}, {"result": None}, {"result": [None, "p", {"id": []}]}]},
        {"annotations": [{"result": [PROMPT, {"value": 3}]}]},
    ],
)
def test_an_annotation_without_that_very_prompt_does_not_count(stored: dict[str, Any]) -> None:
    """The page may show another annotation, and nothing of these."""
    assert labels([PROMPT], **stored) == []


def test_a_region_of_the_context_is_newer_than_the_draft_s() -> None:
    assert labels([PROMPT, box("now")], drafts=[draft(PROMPT, box("then"))]) == ["now"]


def test_a_click_does_not_bring_the_regions_of_its_draft() -> None:
    """The mask that it corrects is one of them, and must be given again."""
    click = {"id": "k", "type": "keypointlabels", "value": {"x": 50, "y": 50}}
    assert labels([click], drafts=[draft(click, box("cat"))]) == []


def test_without_ids_no_annotation_is_the_edited_one() -> None:
    assert labels([typed("cat")], drafts=[draft(typed("cat"), box("cat"))]) == []
