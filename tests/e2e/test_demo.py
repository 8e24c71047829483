"""The demo: `make demo` until a browser has boxes, its end, and the compose file's demo service.

tests/fresh has `make demo` in a new clone, with all its installation.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import yaml

from tests.support.browser import annotator_at
from tests.support.label_studio import LabelStudio
from tests.support.paths import ROOT
from tests.support.running_demo import STOP_S, RunningDemo, Told, demo_in, get_boxes_by_typing

PRELABEL = Path(sys.executable).with_name("prelabel")
PROJECTS = ("typed prompts", "fixed labels", "masks and clicks")
HORSE_PCT = (40.0, 42.0)


def test_make_demo_gives_boxes_in_a_browser_and_a_second_call_finds_all_of_it(
    tmp_path: Path, artifacts: Path
) -> None:
    screenshots = artifacts / "demo"
    screenshots.mkdir()
    with demo_in(tmp_path / "demo") as demo:
        with demo.started() as process:
            told = Told.by(demo.said)
            assert told.address == f"http://127.0.0.1:{demo.ports['LABEL_STUDIO_PORT']}"
            assert tuple(told.tasks) == PROJECTS
            with annotator_at(told.address, screenshots) as person:
                get_boxes_by_typing(person, told)
                person.submit()
                person.open_task(*told.tasks["fixed labels"])
                person.wait_for_predictions()
                person.open_task(*told.tasks["masks and clicks"])
                person.switch_on_auto_annotation()
                person.choose_smart_tool()
                answer = person.click_smartly("1", HORSE_PCT)
            assert {each["type"] for each in answer} == {"rectanglelabels", "brushlabels"}
            assert "0 faults, 1 warning." in doctor(demo, told.tasks["typed prompts"][0])
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            process.wait(STOP_S)
            demo.wait_until_left()
        assert "Label Studio and the service have ended." in demo.said
        with demo.started() as process:
            assert Told.by(demo.said) == told
            assert demo.said.count("is there, connected") == len(PROJECTS)
            os.kill(demo.child_of(process.pid), signal.SIGKILL)  # the supervisor
            process.wait(STOP_S)
            demo.wait_until_left()


def doctor(demo: RunningDemo, project: int) -> str:
    """Run the doctor in a shell that has read the demo's variables; return its output."""
    url = f"http://127.0.0.1:{demo.ports['PORT']}"
    command = f"{PRELABEL} doctor --project {project} --url {url}"
    done = subprocess.run(
        ["sh", "-c", f". {demo.folder / 'environment'} && {command}"],
        env={"PATH": os.defpath, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return " ".join(done.stdout.split())


def test_the_demo_service_of_the_compose_file_sets_the_projects_up(
    label_studio: LabelStudio, service: str, tmp_path: Path
) -> None:
    """Its very command, with other addresses; it signs a user up."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    program, *arguments = compose["services"]["demo"]["command"]
    assert program == "prelabel"
    places = {
        "--folder=/demo": f"--folder={tmp_path}",
        "--url=http://prelabel.internal:9090": f"--url={service}",
    }
    assert places.keys() <= set(arguments)
    environment = {
        "PATH": os.defpath,
        "PYTHONPATH": str(ROOT),
        "LABEL_STUDIO_HOST": label_studio.url,
        "LABEL_STUDIO_ACCESS_TOKEN": "",
    }
    seen = []
    for _ in range(2):
        done = subprocess.run(
            [PRELABEL, *(places.get(each, each) for each in arguments)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        seen.append(Told.by(done.stdout))
    assert seen[0] == seen[1]
    assert seen[0].address == "http://localhost:8080"
    assert tuple(seen[0].tasks) == PROJECTS
    for project, task in seen[0].tasks.values():
        assert [backend["url"] for backend in label_studio.backends(project)] == [service]
        assert min(each["id"] for each in label_studio.tasks(project)) == task
    with annotator_at(label_studio.url, tmp_path) as person:
        person.log_in(seen[0].user, seen[0].password)
