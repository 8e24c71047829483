"""The page of an evaluation is one file, and no name of a project can break it."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from PIL import Image

from prelabel.errors import ImageFetchError
from prelabel.evaluation.advice import Wish
from prelabel.evaluation.report import Report, report_on
from prelabel.evaluation.samples import Boxes, Sample
from prelabel.projects.page.drawings import draw_all
from prelabel.projects.page.figures import figures_of
from prelabel.projects.page.render import Heading, render_page
from tests.support.evaluated import WH, generated

HOSTILE = "</script><script>alert(1)</script>\"'&<img src=x onerror=alert(2)>" + "x" * 440
LABELS = ("cat", "dog", HOSTILE, HOSTILE + "y")


def heading(**more: object) -> Heading:
    fields = {
        "title": HOSTILE,
        "address": "http://studio.example/projects/3/data",
        "project": 3,
        "version": "demo-0123456789",
        "source": "predictions stored in Label Studio",
        "made_at": datetime(2026, 11, 22, tzinfo=UTC),
        "notes": (HOSTILE,),
    }
    return Heading(**{**fields, **more})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def report() -> Report:
    return report_on(
        generated(40, LABELS, 1),
        thresholds=dict.fromkeys(LABELS, 0.6),
        wish=Wish(),
        lowest=0.05,
    )


def picture(width: int, height: int) -> bytes:
    encoded = io.BytesIO()
    Image.new("RGB", (width, height), (90, 120, 140)).save(encoded, "JPEG")
    return encoded.getvalue()


def address(task: int) -> str:
    return f"http://studio.example/projects/3/data?task={task}"


class Tags(HTMLParser):
    """Collects the tags, and the addresses in them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def test_it_is_one_file_and_its_texts_are_harmless(report: Report) -> None:
    def fetch(_: str, task: int | None) -> bytes:
        if task is not None and task % 2:
            raise ImageFetchError(f"The server answered 404. {HOSTILE}")
        return picture(*WH)

    drawings = draw_all(report.worst, fetch, address)
    html = render_page(report, heading(), drawings)
    found = Tags(html)
    assert found.tags.count("script") == 3
    assert not {"link", "img", "iframe"} & set(found.tags)
    assert not found.handlers
    assert all(
        each.startswith(("data:image/jpeg;base64,", "http://studio.example/projects/3/"))
        for each in found.addresses
    )
    assert found.tags.count("article") == len(report.worst) == 20
    assert html.count('<p class="problem">') == sum(each.sample.task % 2 for each in report.worst)
    figures = re.search(r'<script id="figures" type="application/json">(.*?)</script>', html)
    assert figures is not None
    assert json.loads(figures[1]).keys() == {"precision-recall", "f1", "confusion", "intervals"}


def test_equal_beginnings_of_long_labels_stay_apart(report: Report) -> None:
    [matrix] = figures_of(report)["confusion"]["data"]
    assert matrix["x"] == [0, 1, 2, 3, 4]
    assert sum(map(sum, matrix["text"])) == report.confusion.sum()
    names = figures_of(report)["confusion"]["layout"]["xaxis"]["ticktext"]
    assert all("<" not in name for name in names)


def test_a_project_without_anything_has_a_page() -> None:
    nothing = Boxes.of([], [])
    report = report_on([Sample(1, None, "", (0, 0), nothing, nothing)])
    html = render_page(report, heading(), [])
    assert "No picture has a wrong box." in html
    assert "Too few pictures (1) to tell" in html


def test_pictures_are_small_and_boxes_fit_them() -> None:
    truth = Boxes.of([(2000, 1000, 4000, 3000)], ["cat"])
    sample = Sample(7, 2, "a.jpg", (4000, 3000), truth, Boxes.of([], []))
    [drawing] = draw_all(report_on([sample]).worst, lambda *_: picture(4000, 3000), address)
    assert (drawing.width, drawing.height) == (480, 360)
    assert drawing.title == "Task 7, picture 3"
    assert drawing.faults == "1 missed"
    [box] = drawing.boxes
    assert (box.x, box.y, box.width, box.height) == (240, 120, 240, 240)
    assert (box.kind, box.source, box.text) == ("missed", "people", "cat")
    assert len(drawing.image) < 100_000


def test_a_file_that_is_no_picture_has_a_sentence() -> None:
    truth = Boxes.of([(0, 0, 10, 10)], ["cat"])
    sample = Sample(7, None, "a.jpg", WH, truth, Boxes.of([], []))
    [drawing] = draw_all(report_on([sample]).worst, lambda *_: b"%PDF-1.4", address)
    assert "PDF" in drawing.problem
    assert not drawing.image
    assert drawing.boxes
