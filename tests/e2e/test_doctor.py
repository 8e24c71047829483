"""`prelabel connect` and `prelabel doctor` as a user runs them, against a real Label Studio."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.demo_cases import Demo
from tests.support.label_studio import LEGACY_TOKEN, LabelStudio, label_studio_running
from tests.support.paths import ROOT
from tests.support.processes import free_port

PRELABEL = Path(sys.executable).with_name("prelabel")
NO_IMAGE = (
    '<View><Text name="text" value="$text"/><Choices name="kind" toName="text">'
    '<Choice value="a"/><Choice value="b"/></Choices></View>'
)


def prelabel(*arguments: object, host: str, token: str) -> tuple[int, str]:
    """Exit status, and what it said on both streams in one line, as far as it wraps lines."""
    environment = {
        "PATH": os.defpath,
        "PYTHONPATH": str(ROOT),  # this checkout, wherever the command was installed from
        "LABEL_STUDIO_HOST": host,
        "LABEL_STUDIO_ACCESS_TOKEN": token,
    }
    done = subprocess.run(
        [PRELABEL, *map(str, arguments)],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert token not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def project_with_a_picture(label_studio: LabelStudio, demo: Demo, title: str) -> int:
    case = demo.cases[0]
    project = label_studio.create_project(title, demo.config)
    label_studio.upload(project, [(case.image.name, case.image)])
    return project


@pytest.fixture(scope="module")
def project(label_studio: LabelStudio, demo: Demo) -> int:
    """A project with an uploaded picture; the first test connects it."""
    return project_with_a_picture(label_studio, demo, "Doctor")


def test_connecting_twice_leaves_one_backend_that_predicts(
    project: int, label_studio: LabelStudio, service: str
) -> None:
    account = {"host": label_studio.url, "token": label_studio.personal_token}
    seen = []
    for done in ("Connected to", "Updated in"):
        status, said = prelabel("connect", "--project", project, "--url", service, **account)
        assert status == 0, said
        assert f"{done} project {project} (Doctor)" in said
        assert "Interactive preannotations are on." in said
        [backend] = label_studio.backends(project)
        seen.append(backend["id"])
        assert (backend["url"], backend["readable_state"]) == (service, "Connected")
        assert backend["is_interactive"] is True
        assert [hook["url"] for hook in label_studio.webhooks(project)] == [f"{service}/webhook"]
    assert seen[0] == seen[1]
    label_studio.retrieve_predictions(project)
    assert len(label_studio.predictions(project)) == 1


def test_connecting_again_with_another_title_renames_the_backend(
    label_studio: LabelStudio, service: str, demo: Demo
) -> None:
    project = project_with_a_picture(label_studio, demo, "Renamed")
    label_studio.connect(project, service)
    account = {"host": label_studio.url, "token": label_studio.personal_token}
    arguments = ("--project", project, "--url", service, "--title", "shapes", "--no-interactive")
    status, said = prelabel("connect", *arguments, **account)
    assert status == 0, said
    [backend] = label_studio.backends(project)
    assert (backend["title"], backend["is_interactive"]) == ("shapes", False)


def test_where_nothing_is_wrong_only_the_demo_model_is_a_warning(
    project: int, label_studio: LabelStudio, service: str
) -> None:
    """This test builds on the first one, which connected the project."""
    account = {"host": label_studio.url, "token": label_studio.personal_token}
    connected, said = prelabel("connect", "--project", project, "--url", service, **account)
    assert connected == 0, said
    status, said = prelabel("doctor", "--project", project, "--url", service, **account)
    assert status == 0, said
    assert said.endswith("0 faults, 1 warning.")
    assert "warning model" in said
    assert "Real pictures need a real model" in said
    assert "ok token A personal access token of" in said
    assert f"ok picture Boxes on the picture of task {label_studio.tasks(project)[0]['id']}" in said


def examined(
    label_studio: LabelStudio,
    service: str,
    project: int,
    *,
    host: str | None = None,
    token: str | None = None,
) -> str:
    """The doctor's report where one thing is wrong."""
    status, said = prelabel(
        *("doctor", "--project", project, "--url", service),
        host=host or label_studio.url,
        token=token or label_studio.personal_token,
    )
    assert status == 1, said
    assert "1 fault, " in said, said
    return said


def test_a_service_that_is_down(label_studio: LabelStudio, demo: Demo) -> None:
    project = project_with_a_picture(label_studio, demo, "Down")
    nowhere = f"http://127.0.0.1:{free_port()}"
    account = {"host": label_studio.url, "token": label_studio.personal_token}
    status, said = prelabel("doctor", "--project", project, "--url", nowhere, **account)
    assert status == 1
    assert f"fault service No service answers at {nowhere}. Start it with `make serve`." in said
    assert "skipped model" in said
    status, said = prelabel("connect", "--project", project, "--url", nowhere, **account)
    assert status == 1
    assert f"Label Studio cannot reach {nowhere}. Start the service with `make serve`" in said
    assert label_studio.backends(project) == []


def test_a_wrong_address_of_label_studio(
    project: int, label_studio: LabelStudio, service: str, pictures: str
) -> None:
    said = examined(label_studio, service, project, host=pictures)
    assert f"fault Label Studio The server at {pictures} is not Label Studio." in said
    assert "Set LABEL_STUDIO_HOST to the address that a browser shows for Label Studio." in said
    nowhere = f"http://127.0.0.1:{free_port()}"
    said = examined(label_studio, service, project, host=nowhere)
    assert f"Nothing answers at {nowhere}. Start Label Studio, or set" in said


def test_a_revoked_token(project: int, label_studio: LabelStudio, service: str) -> None:
    revoked = label_studio.revoked_token("revoked@example.com")
    said = examined(label_studio, service, project, token=revoked)
    assert "fault token Label Studio refuses the token (HTTP 401)" in said
    assert "check LABEL_STUDIO_ACCESS_TOKEN: it may be expired or revoked" in said


def test_an_unknown_legacy_token(project: int, label_studio: LabelStudio, service: str) -> None:
    said = examined(label_studio, service, project, token="f" * 40)
    assert "fault token Label Studio does not know the legacy token." in said
    assert "Copy a token from Account & Settings" in said


def test_legacy_tokens_switched_off(project: int, label_studio: LabelStudio, service: str) -> None:
    with label_studio.without_legacy_tokens():
        said = examined(label_studio, service, project, token=LEGACY_TOKEN)
    assert "fault token Label Studio has legacy tokens switched off." in said
    assert "Make a personal access token under Account & Settings" in said


def test_a_project_that_is_not_there(label_studio: LabelStudio, service: str) -> None:
    said = examined(label_studio, service, 999_999)
    assert "no project 999999. Take the number from the project's address" in said


def test_a_config_that_cannot_be_served(label_studio: LabelStudio, service: str) -> None:
    project = label_studio.create_project("Texts", NO_IMAGE)
    account = {"host": label_studio.url, "token": label_studio.personal_token}
    status, said = prelabel("doctor", "--project", project, "--url", service, **account)
    assert status == 1
    assert "fault labeling config The labeling config has no Image (it shows Text)" in said
    assert 'Add <Image name="image" value="$image"/>' in said
    status, said = prelabel("connect", "--project", project, "--url", service, **account)
    assert status == 1
    assert "has no Image (it shows Text)" in said
    assert label_studio.backends(project) == []


def test_a_backend_that_is_not_connected(
    label_studio: LabelStudio, service: str, demo: Demo
) -> None:
    project = project_with_a_picture(label_studio, demo, "Alone")
    said = examined(label_studio, service, project)
    assert f"fault backend No backend at {service} is connected to the project." in said
    assert f"Run `prelabel connect --project {project} --url {service}`." in said


@pytest.mark.parametrize("place", ["missing", "not allowed"])
def test_a_picture_that_cannot_be_fetched(
    place: str, label_studio: LabelStudio, service: str, pictures: str, demo: Demo
) -> None:
    host = pictures if place == "missing" else f"http://127.0.0.1:{free_port()}"
    project = label_studio.create_project(f"Picture {place}", demo.config)
    label_studio.connect(project, service)
    label_studio.import_tasks(project, [f"{host}/nowhere.png"])
    said = examined(label_studio, service, project)
    [task] = label_studio.tasks(project)
    assert f"fault picture Task {task['id']}: " in said
    fix = "check the picture's address." if place == "missing" else "to ALLOWED_IMAGE_HOSTS."
    assert fix in said


# A Label Studio that refuses --------------------------------------------------------------------


@pytest.fixture(scope="module", params=["neither switch", "one switch"])
def strict_label_studio(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    artifacts: Path,
    demo: Demo,
) -> Iterator[LabelStudio]:
    """Started with neither of the two variables that allow private addresses, or with one."""
    blocks = "true" if request.param == "neither switch" else "false"
    folder = tmp_path_factory.mktemp("strict")
    log = artifacts / f"label-studio-{request.param.replace(' ', '-')}.log"
    switches = {"ML_BLOCK_LOCAL_IP": blocks, "SSRF_PROTECTION_ENABLED": "true"}
    with label_studio_running(
        folder, log, demo.cases[0].image.parent.parent, **switches
    ) as running:
        yield running


def test_refused_private_addresses_leave_no_orphan(
    strict_label_studio: LabelStudio, service: str, demo: Demo
) -> None:
    project = project_with_a_picture(strict_label_studio, demo, "Strict")
    account = {"host": strict_label_studio.url, "token": strict_label_studio.personal_token}
    status, said = prelabel("connect", "--project", project, "--url", service, **account)
    assert status == 1
    assert "Label Studio refuses private addresses" in said
    assert "ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false." in said
    assert strict_label_studio.backends(project) == []
    assert strict_label_studio.webhooks(project) == []
