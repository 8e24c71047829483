"""`prelabel evaluate` over a project of Label Studio, and its page in a browser."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.support.browser import ARGS, CHROMIUM, annotator_at
from tests.support.fake_annotations import WH, region
from tests.support.label_studio import Json, LabelStudio
from tests.support.scenes import fresh

VERSION = "planted-1"
HOSTILE = "<b>dog</b> & \"c\" <script>document.title = 'broken'</script>"
CIRCLE, SQUARE = (60, 60, 221, 221), (380, 200, 561, 401)  # in the scene
PLANTED = 0.9  # a threshold that no box of the demo model reaches
CONFIG = f"""<View>
  <!-- thresholds are at the end of each label -->
  <Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image">
    <Label  value="red circle" background='#f00' model_score_threshold="{PLANTED}" hotkey="1"/>
    <Label value="blue square" background="blue"
           model_score_threshold="{PLANTED}"/>
    <Label value="cat &amp; &lt;dog&gt;"/>
  </RectangleLabels>
</View>"""


@dataclass(frozen=True)
class Evaluate:
    """The command for one project, in a shell with Label Studio's variables."""

    project: int
    service: str
    label_studio: LabelStudio
    folder: Path

    def run(self, *options: str, command: str = "evaluate") -> str:
        """Run it to its end; return what it prints."""
        ended = subprocess.run(
            [
                *(str(Path(sys.executable).with_name("prelabel")), command),
                *("--project", str(self.project), "--url", self.service, *options),
            ],
            env={
                "PATH": os.defpath,
                "HOME": str(self.folder),
                "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
                "COLUMNS": "200",
                "LABEL_STUDIO_HOST": self.label_studio.url,
                "LABEL_STUDIO_ACCESS_TOKEN": self.label_studio.personal_token,
            },
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout


@contextmanager
def opened(page: Path, **options: object) -> Iterator[Page]:
    """Open a page in a browser that may reach nothing else."""
    foreign: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        try:
            shown = browser.new_context(**options).new_page()  # type: ignore[arg-type]
            shown.on("pageerror", lambda error: foreign.append(str(error)))
            shown.on("console", lambda message: foreign.append(message.text))
            shown.on(
                "request",
                lambda request: (
                    None
                    if request.url.startswith(("data:", page.as_uri()))
                    else foreign.append(request.url)
                ),
            )
            shown.goto(page.as_uri())
            shown.wait_for_selector("#confusion .plotly")
            yield shown
            assert not foreign
        finally:
            browser.close()


def planted(task: int) -> tuple[list[Json], list[Json]]:
    """Return the prediction of the n-th task, and the annotation that people made of it.

    Every tenth box is moved, and one label is swapped.
    """
    circle = region("red circle", CIRCLE, score=0.9, number=f"c{task}")
    square = region("blue square", SQUARE, score=0.8, number=f"s{task}")
    predicted = [circle, square]
    truth = [
        region("red circle", CIRCLE, number=f"c{task}"),
        region("blue square", SQUARE, number=f"s{task}"),
    ]
    if task % 5 == 0:  # of two boxes a picture
        moved = [edge + 130 for edge in CIRCLE]
        predicted[0] = region("red circle", moved, score=0.9, number=f"c{task}")
    if task == 7:
        predicted[1] = region("red circle", SQUARE, score=0.8, number=f"s{task}")
    return predicted, truth


@pytest.mark.parametrize("from_predictions", [True])
def test_planted_errors_appear_in_the_page(
    label_studio: LabelStudio, service: str, artifacts: Path, tmp_path: Path, from_predictions: bool
) -> None:
    project = label_studio.create_project(HOSTILE[:50], CONFIG)
    label_studio.import_tasks(project, fresh(41))
    tasks = [int(task["id"]) for task in label_studio.tasks(project)]
    for number, task in enumerate(tasks[:40], 1):
        predicted, truth = planted(number)
        parent = label_studio.predict(task, predicted, VERSION)
        if from_predictions:
            label_studio.annotate(task, truth, parent_prediction=parent)
        else:
            label_studio.annotate(task, [{**each, "id": f"own-{each['id']}"} for each in truth])
    label_studio.annotate(tasks[8], [], was_cancelled=True)
    page = tmp_path / "page.html"
    evaluate = Evaluate(project, service, label_studio, tmp_path)
    options = ("--model-version", VERSION, "--page", str(page))
    figures = json.loads(evaluate.run(*options, "--json", "-"))
    assert figures["pictures"] == 40
    moved, swapped = [tasks[n - 1] for n in range(5, 41, 5)], tasks[6]
    with opened(page, viewport={"width": 1300, "height": 900}) as shown:
        assert shown.title() == f"Evaluation of project {project}"
        assert shown.locator("h1").inner_text() == HOSTILE[:50]
        [matrix] = shown.evaluate("document.getElementById('confusion').data")
        # Squares, circles and nothing: rows are people.
        assert sorted(map(sorted, matrix["text"])) == [[0, 0, 8], [0, 1, 39], [0, 8, 32]]
        worst = shown.locator("#worst article")
        names = [worst.nth(i).locator("a").inner_text() for i in range(worst.count())]
        assert sorted(names) == sorted(f"Task {task}" for task in [*moved, swapped])
        assert names[-1] == f"Task {swapped}"
        assert worst.first.locator("p").first.inner_text() == "1 missed, 1 false"
        assert worst.last.locator("p").first.inner_text() == "1 under another label"
        assert worst.first.locator("g.missed rect").count() == 1
        assert worst.first.locator("g.wrong rect").count() == 1
        link = worst.first.locator("a").get_attribute("href")
        assert link == f"{label_studio.url}/projects/{project}/data?task={names[0][5:]}"
        assert worst.first.locator("image").get_attribute("href").startswith("data:image/jpeg")  # type: ignore[union-attr]
        corrected = {
            name: shown.locator(f"[data-correction={name}] .value").inner_text()
            for name in ("kept", "moved", "relabelled", "deleted", "added")
        }
        expected = ("71", "8", "1", "0", "0") if from_predictions else ("71", "0", "1", "8", "8")
        assert tuple(corrected.values()) == expected
        shown.screenshot(path=artifacts / f"evaluation-{from_predictions}.png", full_page=True)
    narrow = {"viewport": {"width": 390, "height": 800}, "color_scheme": "dark"}
    with opened(page, **narrow) as shown:
        assert shown.evaluate("document.documentElement.scrollWidth") <= 390
        shown.screenshot(path=artifacts / "evaluation-narrow.png", full_page=True)


def test_thresholds_are_written_and_the_next_prediction_obeys(
    label_studio: LabelStudio, service: str, artifacts: Path, tmp_path: Path
) -> None:
    project = label_studio.create_project("Thresholds", CONFIG)
    label_studio.import_tasks(project, fresh(61))
    *tasks, last = [int(task["id"]) for task in label_studio.tasks(project)]
    truth = [region("red circle", CIRCLE), region("blue square", SQUARE, number="r2")]
    for task in tasks:
        label_studio.annotate(task, truth)
    evaluate = Evaluate(project, service, label_studio, tmp_path)
    said = evaluate.run("--advise", "--apply", "--yes", "--no-page")
    assert "There are 0 boxes of people" not in said
    written = label_studio.config(project)
    found = re.findall(r'model_score_threshold="(0\.\d+)"', written)
    assert len(found) == 2
    assert all(0.05 <= float(threshold) < 0.6 for threshold in found)
    restored = re.sub(r'(model_score_threshold=")0\.\d+"', rf'\g<1>{PLANTED}"', written)
    assert restored == CONFIG
    backup = re.search(r"is in (\S+\.xml)", said)
    assert backup is not None
    assert Path(backup[1]).read_text() == CONFIG
    Path(backup[1]).unlink()

    assert not label_studio.predictions(project)
    evaluate.run("--journal", str(tmp_path / "run.sqlite"), command="annotate")
    [prediction] = [p for p in label_studio.predictions(project) if p["task"] == last]
    labels = [entry["value"]["rectanglelabels"] for entry in prediction["result"]]
    assert sorted(labels) == [["blue square"], ["red circle"]]
    assert all(entry["original_width"] == WH[0] for entry in prediction["result"])

    folder = artifacts / "thresholds"
    folder.mkdir()
    with annotator_at(label_studio.url, folder) as person:
        person.log_in()
        person.page.goto(f"{label_studio.url}/projects/{project}/settings/labeling")
        person.page.get_by_text("Code", exact=True).first.click()
        person.page.wait_for_selector(".CodeMirror")
        code = person.page.evaluate("document.querySelector('.CodeMirror').CodeMirror.getValue()")
        person.take_screenshot("labeling-config")
    assert [each in code for each in found] == [True, True]
    assert f'threshold="{PLANTED}"' not in code
