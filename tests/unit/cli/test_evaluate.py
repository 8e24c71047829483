"""`prelabel evaluate` as it is typed, between a Label Studio and a service."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import pytest
from pydantic import SecretStr
from rich.console import Console

from prelabel.cli.evaluate import EvaluateOptions, evaluate, wish_of
from prelabel.cli.service_client import ServiceClient
from prelabel.errors import PrelabelError
from prelabel.evaluation.advice import Wish
from prelabel.labelstudio.protocol import key_of
from prelabel.net.egress import Egress
from prelabel.settings import Environment
from prelabel.types import PromptRequest
from tests.support.fake_annotations import AnnotatedLabelStudio, region
from tests.support.fake_label_studio import running
from tests.support.local_service import VERSION, LocalService
from tests.support.local_service import running as service_running
from tests.support.scenes import SCENE

pytestmark = pytest.mark.slow

PRELABEL = Path(sys.executable).with_name("prelabel")
CONFIG = """<View>
  <Image name="image" value="$image"/>
  <!-- the labels -->
  <RectangleLabels name="label" toName="image">
    <Label value="cat" background="red"/>
    <Label value="dog" />
  </RectangleLabels>
</View>"""
WHOLE, CORNER = (0, 0, 640, 480), (0, 0, 100, 100)
OPTIONS = EvaluateOptions(
    project=3,
    model_version=None,
    fresh=False,
    page=None,
    has_page=False,
    json_file=None,
    wish=None,
    apply=False,
    yes=False,
)


@dataclass
class Servers:
    """A Label Studio, a service, and a folder for files."""

    studio: AnnotatedLabelStudio
    studio_url: str
    service: LocalService
    url: str
    folder: Path

    def run(self, options: EvaluateOptions, url: str | None = None) -> str:
        """Return what the command prints."""
        environment = Environment(
            LABEL_STUDIO_HOST=self.studio_url,
            LABEL_STUDIO_ACCESS_TOKEN=SecretStr(self.studio.token),
        )
        printed = io.StringIO()
        console = Console(file=printed, width=200)
        client = ServiceClient(url or self.url, None, Egress.plain())
        assert evaluate(options, client, environment, console) == 0
        return printed.getvalue()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    """People see a cat on each whole picture; stored predictions see it, and now and then a dog."""
    tasks = list(range(1, 101))
    studio = AnnotatedLabelStudio(config=CONFIG, task_ids=tasks, images=dict.fromkeys(tasks, SCENE))
    for task in tasks:
        studio.annotate(task, [region("cat", WHOLE)])
        dogs = [region("dog", CORNER, score=0.4, number="d")] if task % 3 == 0 else []
        cat = region("cat", WHOLE, score=0.9)
        false_cats = [region("cat", CORNER, score=0.45, number="f")] if task % 2 else []
        studio.predict(task, [cat, *dogs, *false_cats], VERSION)
    service = LocalService(Environment())
    with running(studio) as server, service_running(service) as url:
        yield Servers(studio, server.url, service, url, tmp_path)


def test_stored_predictions_are_measured(servers: Servers) -> None:
    file, page = servers.folder / "figures.json", servers.folder / "page.html"
    printed = servers.run(replace(OPTIONS, json_file=str(file), page=page, has_page=True))
    assert f"Project 3 (Cats), model version {VERSION}, predictions stored in" in printed
    assert "100 pictures, 0 of them without objects; 100 boxes of people, 183" in printed
    figures = json.loads(file.read_text())
    assert figures["recall"]["value"] == 1
    assert figures["precision"]["value"] == pytest.approx(100 / 183)
    assert figures["confusion"]["people_by_model"] == [[100, 0, 0], [0, 0, 0], [50, 33, 0]]
    assert figures["corrections"]["deleted"] == 83
    assert [each["threshold"] for each in figures["labels"]] == [None, None]
    assert not servers.service.requests
    html = page.read_text()
    assert html.count("<article>") == 20
    assert html.count("data:image/jpeg;base64,") == 20
    assert f"{servers.studio_url}/projects/3/data?task=3" in html
    servers.studio.stored = servers.studio.stored[:60]
    assert "40 of 100 annotated tasks have no prediction" in servers.run(OPTIONS)


def test_without_a_service_the_newest_predictions_count(servers: Servers) -> None:
    servers.studio.predict(1, [], "newer-1")
    assert "model version newer-1" in servers.run(OPTIONS, "http://127.0.0.1:9")
    servers.studio.stored = []
    with pytest.raises(PrelabelError, match="no predictions, and no service answers"):
        servers.run(OPTIONS, "http://127.0.0.1:9")
    with pytest.raises(PrelabelError, match="prelabel annotate --project 3"):
        servers.run(OPTIONS)


def test_the_service_is_asked_with_the_config_of_the_project(servers: Servers) -> None:
    before = list(servers.studio.stored)
    printed = servers.run(replace(OPTIONS, fresh=True))
    assert "asked for now" in printed
    assert {request.label_config for request in servers.service.requests} == {CONFIG}
    assert sum(len(request.tasks) for request in servers.service.requests) == 100
    assert servers.studio.stored == before


def test_thresholds_are_proposed_from_low_ones_and_written(servers: Servers) -> None:
    options = replace(OPTIONS, wish=Wish(), apply=True, yes=True)
    printed = servers.run(options)
    asked = [request.params for request in servers.service.requests]
    assert {each.box_threshold for each in asked if each is not None} == {0.05}
    assert "nothing to change" in printed  # the service's boxes all score .9

    printed = servers.run(replace(options, model_version=VERSION))
    assert "--- labeling config now" in printed
    written = servers.studio.project["label_config"]
    found = re.search(r'"red" model_score_threshold="(0\.\d+)"', written)
    assert found is not None
    assert 0.45 < float(found[1]) < 0.9
    assert written.replace(f' model_score_threshold="{found[1]}"', "") == CONFIG
    backup = re.search(r"is in (\S+\.xml)", printed)
    assert backup is not None
    old = Path(backup[1])
    assert old.read_text() == CONFIG
    old.unlink()
    assert "100 boxes of people, 133" in servers.run(
        replace(OPTIONS, wish=Wish(), model_version=VERSION)
    )


def test_a_remembered_threshold_would_win(servers: Servers) -> None:
    created_at = datetime.fromisoformat(servers.studio.project["created_at"])
    key = key_of(3, created_at)
    asyncio.run(servers.service.prompts.register(key, PromptRequest(box_threshold=0.6)))
    with pytest.raises(PrelabelError, match=r"remembers a box threshold of 0.6"):
        servers.run(replace(OPTIONS, wish=Wish()))


def test_contradictions_are_said() -> None:
    assert wish_of(True, False, None, None) == Wish()
    assert wish_of(True, False, 0.9, None) == Wish("precision", 0.9)
    assert wish_of(True, True, None, 0.0) == Wish("recall", 0.0)
    assert wish_of(False, False, None, None) is None
    for advise, apply, precision, recall in (
        (True, False, 0.9, 0.9),
        (False, True, None, None),
        (False, False, 0.9, None),
    ):
        with pytest.raises(PrelabelError, match="Give --"):
            wish_of(advise, apply, precision, recall)


def test_from_a_shell(servers: Servers) -> None:
    variables = {
        "PATH": os.defpath,
        "HOME": str(servers.folder),
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "LABEL_STUDIO_HOST": servers.studio_url,
        "LABEL_STUDIO_ACCESS_TOKEN": servers.studio.token,
    }
    command: list[str | Path] = [PRELABEL, "evaluate", "--project", "3", "--url", servers.url]
    asked = [*command, "--advise", "--apply", "--model-version", VERSION, "--json", "-"]
    ended = subprocess.run(
        asked,
        env=variables,
        cwd=servers.folder,
        input="n\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["advice"]["proposals"].keys() == {"cat"}
    assert "Nothing was changed." in ended.stderr
    assert servers.studio.project["label_config"] == CONFIG
    assert (servers.folder / "evaluation-project-3.html").is_file()
    wrong = subprocess.run(
        [*command, "--apply"],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr.startswith("prelabel: Give --advise")
