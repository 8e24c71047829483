from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest
import requests
from PIL import Image
from pydantic import SecretStr
from rich.console import Console

from prelabel.cli.doctor import Finding, Status, examine, print_report
from prelabel.cli.doctor_checks import DoctorContext
from prelabel.cli.doctor_machine import Machine
from prelabel.errors import OverloadedError
from prelabel.labelstudio.protocol import PredictRequest
from prelabel.labelstudio.rest import LabelStudioAPI, predict_request
from prelabel.prompts.storage import FileStorage
from prelabel.service import Readiness
from prelabel.settings import Environment
from prelabel.types import PromptRequest
from tests.support.fake_label_studio import (
    ACCESS,
    CONFIG,
    LEGACY,
    USER,
    LabelStudio,
    personal_token,
    running,
)
from tests.support.http_server import serve
from tests.support.local_service import LocalService
from tests.support.local_service import running as service_running
from tests.support.scenes import data_uri, encoded

VARIABLES = ("LABEL_STUDIO_HOST", "LABEL_STUDIO_ACCESS_TOKEN", "BASIC_AUTH_USER", "BASIC_AUTH_PASS")
REAL = "grounding-dino-swin-t"
PRELABEL = Path(sys.executable).with_name("prelabel")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def variables(studio: LabelStudio, url: str) -> dict[str, str]:
    return {"LABEL_STUDIO_HOST": url, "LABEL_STUDIO_ACCESS_TOKEN": studio.token}


def picture() -> str:
    return data_uri(encoded(Image.new("RGB", (64, 64), "red")))


def task(image: str) -> dict[str, Any]:
    """As TaskSimpleSerializer has it."""
    return {"id": 7, "data": {"image": image}, "project": 3, "file_upload": None, "annotations": []}


# Nothing listens at this address of loopback, and no folder needs room.
ROOMY = Machine(own_address="127.0.0.2", places=())


class World:
    """A service and a Label Studio with one connected project, where nothing is wrong."""

    def __init__(
        self, studio: LabelStudio, studio_url: str, service: LocalService, url: str
    ) -> None:
        self.studio = studio
        self.service = service
        self.url = url
        self.environment = Environment.model_validate(variables(studio, studio_url))
        self.context = DoctorContext(url, url, 3, self.environment)

    def findings(self, **changes: Any) -> dict[str, Finding]:
        return {f.check: f for f in examine(replace(self.context, **changes), ROOMY)}

    def with_variables(self, **changes: str) -> dict[str, Finding]:
        aliases = dict(zip(VARIABLES, ("label_studio_url", "label_studio_token"), strict=False))
        values: dict[str, Any] = {}
        for name, value in changes.items():
            secret = name == "LABEL_STUDIO_ACCESS_TOKEN"
            values[aliases[name]] = SecretStr(value) if secret else value
        return self.findings(environment=self.environment.model_copy(update=values))


@pytest.fixture
def world() -> Iterator[World]:
    studio = LabelStudio(tasks=[task(picture())])
    with running(studio) as server:
        told = Environment.model_validate(variables(studio, server.url))
        service = LocalService(told, model=REAL)
        with service_running(service) as url:
            studio.backends.append({"id": 1, "url": url, "is_interactive": True})
            studio.webhooks.append({"id": 1, "url": f"{url}/webhook"})
            yield World(studio, server.url, service, url)


def assert_only(status: Status, check: str, found: dict[str, Finding]) -> str:
    """Assert that this check alone has this status, and none a worse one; return its sentence."""
    assert [f.check for f in found.values() if f.status is status] == [check], found
    others = {f.status for f in found.values() if f.check != check}
    assert others <= {Status.OK, Status.SKIPPED}, found
    return found[check].sentence


def skipped(found: dict[str, Finding]) -> list[str]:
    return [f.check for f in found.values() if f.status is Status.SKIPPED]


SERVICE_CHECKS = ["model", "detection", "prompts", "service variables"]
LABEL_STUDIO_CHECKS = ["project", "labeling config", "backend", "picture"]


# Nothing wrong ----------------------------------------------------------------------------------


def test_where_nothing_is_wrong_every_check_is_ok(world: World) -> None:
    found = world.findings()
    assert {f.status for f in found.values()} == {Status.OK}, found
    assert list(found) == [
        *("service", "model", "detection", "prompts", "service variables"),
        *("shell variables", "Label Studio", "token"),
        *("kernels", "address", "clock", "disk", *LABEL_STUDIO_CHECKS),
    ]
    assert USER in found["token"].sentence
    assert "1.23.2" in found["Label Studio"].sentence
    assert "Boxes on the picture of task 7: 1, in" in found["picture"].sentence


def test_without_a_project_none_is_looked_at(world: World) -> None:
    assert not set(LABEL_STUDIO_CHECKS) & set(world.findings(project=None))


def test_the_service_is_asked_as_label_studio_asks_it(world: World) -> None:
    world.findings()
    request = world.service.requests[-1]
    assert request.project == "3.1795349150"
    assert request.label_config == CONFIG
    assert request.context is None
    assert [t.id for t in request.tasks] == [7]


def test_the_request_has_the_keys_of_a_recorded_one(world: World) -> None:
    api = LabelStudioAPI(str(world.environment.label_studio_url), SecretStr(world.studio.token))
    stored = api.newest_task(3)
    assert stored is not None
    body = predict_request(api.project(3), [stored])
    assert set(body) == {"tasks", "project", "label_config", "params"}
    assert body["params"] == {"login": None, "password": None, "context": None}
    assert body["tasks"] == [task(picture())]
    PredictRequest.model_validate(body)


def test_no_token_is_in_any_finding(world: World) -> None:
    texts = [
        str(world.with_variables(LABEL_STUDIO_ACCESS_TOKEN=token))
        for token in (LEGACY, personal_token(1), world.studio.token)
    ]
    world.studio.takes_personal = False
    texts.append(str(world.findings()))
    for secret in (LEGACY, ACCESS, world.studio.token, personal_token(1)):
        assert not any(secret in text for text in texts)


# The service ------------------------------------------------------------------------------------


def test_a_service_that_is_down(world: World) -> None:
    found = world.findings(url="http://127.0.0.1:9")
    assert "Start it with `make serve`." in assert_only(Status.FAULT, "service", found)
    assert skipped(found) == [*SERVICE_CHECKS, "picture"]
    assert found["backend"].status is Status.OK


@pytest.mark.parametrize(
    ("status", "sentence"),
    [("STARTING", "its model is not loaded yet"), ("DOWN", "could not load its model")],
)
def test_a_service_without_its_model(
    world: World, status: Literal["STARTING", "DOWN"], sentence: str
) -> None:
    world.service.state = Readiness(status, ready=False)
    found = world.findings()
    assert sentence in assert_only(Status.FAULT, "service", found)
    assert skipped(found) == [*SERVICE_CHECKS, "picture"]


def test_ray_serve_without_the_service(world: World) -> None:
    body = b"Path '/health' not found. Ping http://.../-/routes for available routes."
    with serve(lambda exchange, _: exchange.answer(404, body)) as server:
        found = world.findings(url=server.url)
    assert "it is starting, or it failed to start" in assert_only(Status.FAULT, "service", found)


def test_something_else_at_the_service_s_address(world: World) -> None:
    found = world.findings(url=str(world.environment.label_studio_url))
    assert "Check the URL." in assert_only(Status.FAULT, "service", found)


def test_a_service_that_wants_a_password() -> None:
    guarded = Environment.model_validate({"BASIC_AUTH_USER": "u", "BASIC_AUTH_PASS": "p"})
    with service_running(LocalService(guarded)) as url:
        for environment, status in ((Environment(), Status.FAULT), (guarded, Status.OK)):
            first, *_ = examine(DoctorContext(url, url, None, environment))
            assert first.status is status
            if status is Status.FAULT:
                assert "Set BASIC_AUTH_USER and BASIC_AUTH_PASS" in first.sentence


def test_the_demo_model_is_a_warning() -> None:
    with service_running(LocalService(Environment())) as url:
        found = {f.check: f for f in examine(DoctorContext(url, url, None, Environment()))}
    assert found["model"].status is Status.WARNING
    assert "Real pictures need a real model" in found["model"].sentence
    assert found["detection"].status is Status.OK


def test_a_card_that_is_probably_wrong_is_a_warning() -> None:
    service = LocalService(Environment(), model="grounding-dino-tiny", warning="Set image_size.")
    with service_running(service) as url:
        found = {f.check: f for f in examine(DoctorContext(url, url, None, Environment()))}
    assert (found["model"].status, found["model"].sentence) == (Status.WARNING, "Set image_size.")


def test_a_model_that_does_not_answer(world: World) -> None:
    world.service.failure = OverloadedError("The queue is full. Allow more replicas.")
    found = world.findings(project=None)
    sentence = assert_only(Status.FAULT, "detection", found)
    assert "Allow more replicas" in sentence


def test_a_memory_of_prompts_that_cannot_be_used(world: World, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("")
    file = tmp_path / "text" / "prompts.sqlite"
    world.service.open_storage = lambda: FileStorage(file)
    for project in (3, None):
        sentence = assert_only(Status.FAULT, "prompts", world.findings(project=project))
        assert sentence.startswith("The file of remembered prompts cannot be used (")
        assert "Set prompts.file" in sentence
        assert str(tmp_path) not in sentence
    answer = requests.get(f"{world.url}/prompts", timeout=5)
    assert answer.status_code == 503
    assert answer.json()["error_type"] == "PromptMemoryError"
    errors = requests.get(f"{world.url}/errors?project=3.1795349150", timeout=5).json()["errors"]
    # The picture of the project was looked at, by the labels of its config.
    assert [fault["error_type"] for fault in errors] == ["PromptMemoryError"]


def test_a_prompt_that_is_remembered_for_the_project(world: World) -> None:
    world.findings()
    submitted = world.service.prompts.remember(
        "3.1795349150", datetime.now(UTC), PromptRequest("cat")
    )
    asyncio.run(submitted)
    assert world.findings()["prompts"].sentence == "A prompt is remembered for project 3."


@pytest.mark.parametrize("name", ["LABEL_STUDIO_HOST", "LABEL_STUDIO_ACCESS_TOKEN"])
def test_a_service_without_its_variables(world: World, name: str) -> None:
    told = variables(world.studio, "http://127.0.0.1:1")
    del told[name]
    with service_running(LocalService(Environment.model_validate(told), model=REAL)) as url:
        found = world.findings(url=url, project=None)
    sentence = assert_only(Status.FAULT, "service variables", found)
    assert f"runs without {name} and" in sentence
    assert "start it again" in sentence


def test_health_says_whether_the_variables_are_there_and_never_what() -> None:
    told = Environment.model_validate(variables(LabelStudio(), "http://secret-host:1"))
    service = LocalService(told)
    with service_running(service) as url:
        answer = requests.get(f"{url}/health", timeout=5)
    assert answer.json()["label_studio"] == {"host": True, "access_token": True}
    assert "secret-host" not in answer.text
    assert LabelStudio().token not in answer.text


# Label Studio -----------------------------------------------------------------------------------


def test_variables_missing_in_this_shell(world: World) -> None:
    found = world.findings(environment=Environment())
    sentence = assert_only(Status.FAULT, "shell variables", found)
    assert "no LABEL_STUDIO_HOST and LABEL_STUDIO_ACCESS_TOKEN. Export" in sentence
    assert skipped(found) == ["Label Studio", "token", *LABEL_STUDIO_CHECKS]


def test_nothing_at_label_studio_s_address(world: World) -> None:
    found = world.with_variables(LABEL_STUDIO_HOST="http://user:secret@127.0.0.1:9")
    sentence = assert_only(Status.FAULT, "Label Studio", found)
    assert sentence.startswith("Nothing answers at http://127.0.0.1:9. Start Label Studio")
    assert "set LABEL_STUDIO_HOST to its address" in sentence


def test_something_else_at_label_studio_s_address(world: World) -> None:
    found = world.with_variables(LABEL_STUDIO_HOST=world.url)  # the service itself
    assert "is not Label Studio. Set LABEL_STUDIO_HOST" in assert_only(
        Status.FAULT, "Label Studio", found
    )


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"{}", b'{"release": 3}', b"[]", b""])
def test_answers_that_are_not_label_studio_s(world: World, body: bytes) -> None:
    with serve(lambda exchange, _: exchange.answer(200, body)) as server:
        found = world.with_variables(LABEL_STUDIO_HOST=server.url)
        assert {received.path for received in server.received} == {"/api/version/"}
        assert "Authorization" not in server.received[0].headers
    assert "is not Label Studio" in assert_only(Status.FAULT, "Label Studio", found)


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://studio.example/api/version/?key=SECRET", "https://studio.example."),
        ("https://u:SECRET@studio.example/", "https://studio.example."),
        ("/user/login/?next=SECRET", "/user/login/."),
        ("", "elsewhere."),
    ],
)
def test_redirects_are_named_and_not_followed(world: World, location: str, shown: str) -> None:
    world.studio.location = location
    sentence = assert_only(Status.FAULT, "Label Studio", world.findings())
    assert f"redirects to {shown} Set LABEL_STUDIO_HOST" in sentence
    assert "SECRET" not in sentence


def test_a_label_studio_that_hangs_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prelabel.labelstudio.http.TIMEOUTS_S", (0.5, 0.5))
    with serve(lambda *_: time.sleep(2)) as server:
        found = world.with_variables(LABEL_STUDIO_HOST=server.url)
    assert "does not answer in time" in assert_only(Status.FAULT, "Label Studio", found)


# The token --------------------------------------------------------------------------------------


def test_a_revoked_personal_token(world: World) -> None:
    world.studio.token = personal_token(7_000_000_000)  # another one than the shell has
    found = world.findings()
    sentence = found["token"].sentence
    assert found["token"].status is Status.FAULT
    assert "check LABEL_STUDIO_ACCESS_TOKEN: it may be expired or revoked" in sentence
    assert skipped(found) == LABEL_STUDIO_CHECKS


def test_an_expired_personal_token(world: World) -> None:
    found = world.with_variables(LABEL_STUDIO_ACCESS_TOKEN=personal_token(1_700_000_000))
    sentence = assert_only(Status.FAULT, "token", found)
    assert "expired on 2023-11-14. Make a new one under Account & Settings" in sentence


def test_a_personal_token_that_ends_soon(world: World) -> None:
    world.studio.token = personal_token(int(time.time()) + 3 * 86400)
    found = world.with_variables(LABEL_STUDIO_ACCESS_TOKEN=world.studio.token)
    assert "Make a new one under Account & Settings before that." in assert_only(
        Status.WARNING, "token", {"token": found["token"]}
    )


def test_personal_tokens_switched_off(world: World) -> None:
    world.studio.takes_personal = False
    sentence = assert_only(Status.FAULT, "token", world.findings())
    assert "takes no personal access tokens. Switch them on under Organization" in sentence


def test_legacy_tokens_switched_off(world: World) -> None:
    found = world.with_variables(LABEL_STUDIO_ACCESS_TOKEN=LEGACY)
    sentence = assert_only(Status.FAULT, "token", found)
    assert "legacy tokens switched off. Make a personal access token" in sentence


def test_an_unknown_legacy_token(world: World) -> None:
    found = world.with_variables(LABEL_STUDIO_ACCESS_TOKEN="f" * 40)
    assert "Copy a token from Account & Settings" in assert_only(Status.FAULT, "token", found)


def test_a_legacy_token_that_is_taken(world: World) -> None:
    world.studio.takes_legacy = True
    found = world.with_variables(LABEL_STUDIO_ACCESS_TOKEN=LEGACY)
    assert found["token"].status is Status.OK
    assert found["token"].sentence.startswith(f"A legacy token of {USER}")


# The project ------------------------------------------------------------------------------------


def test_a_project_that_is_not_there(world: World) -> None:
    found = world.findings(project=4)
    sentence = assert_only(Status.FAULT, "project", found)
    assert "shows the token's user no project 4. Take the number from" in sentence
    assert skipped(found) == LABEL_STUDIO_CHECKS[1:]


def test_a_config_that_cannot_be_served(world: World) -> None:
    world.studio.project["label_config"] = "<View><Image name='image' value='$image'/></View>"
    found = world.findings()
    assert found["labeling config"].status is Status.FAULT
    assert "has no RectangleLabels for boxes on its Image. Add" in found["labeling config"].sentence
    assert found["picture"].status is Status.SKIPPED


def test_a_backend_that_is_not_connected(world: World) -> None:
    world.studio.backends[0]["url"] = "http://127.0.0.1:1"
    sentence = assert_only(Status.FAULT, "backend", world.findings())
    assert sentence.endswith(f"Run `prelabel connect --project 3 --url {world.url}`.")


def test_the_usual_address_is_not_spelled_out(world: World) -> None:
    found = world.findings(backend_url="http://127.0.0.1:9090")
    assert found["backend"].sentence.endswith("Run `prelabel connect --project 3`.")


def test_label_studio_may_know_the_service_by_another_name(world: World) -> None:
    there = world.url.replace("127.0.0.1", "localhost") + "/"
    assert world.findings(backend_url=there)["backend"].status is Status.OK


def test_a_backend_that_label_studio_cannot_use(world: World) -> None:
    world.studio.backends[0]["basic_auth_user"] = "x"
    dead = "http://127.0.0.1:9"
    world.studio.backends[0]["url"] = dead
    found = world.findings(backend_url=dead)
    sentence = assert_only(Status.FAULT, "backend", found)
    assert "in the state Disconnected. 127.0.0.1 is no public address" in sentence
    assert "Run `prelabel connect --project 3 --url" in sentence
    assert sentence.endswith("which prints the reason.")


def test_preannotations_that_are_off(world: World) -> None:
    world.studio.backends[0]["is_interactive"] = False
    sentence = assert_only(Status.WARNING, "backend", world.findings())
    assert sentence.startswith("Interactive preannotations are off. Run `prelabel connect")


def test_a_missing_webhook(world: World) -> None:
    world.studio.webhooks.clear()
    sentence = assert_only(Status.WARNING, "backend", world.findings())
    assert "prompts are not remembered. Run `prelabel connect" in sentence


def test_two_backends_at_the_address(world: World) -> None:
    world.studio.backends.append({**world.studio.backends[0], "id": 2})
    sentence = assert_only(Status.WARNING, "backend", world.findings())
    assert "has 2 backends at" in sentence


def test_a_project_without_tasks(world: World) -> None:
    world.studio.tasks.clear()
    sentence = assert_only(Status.WARNING, "picture", world.findings())
    assert sentence.endswith("Import a picture.")


@pytest.mark.parametrize(
    ("image", "fix"),
    [
        ("http://127.0.0.1:8009/a.png", "ALLOWED_IMAGE_HOSTS"),
        ("/data/upload/3/missing.png", "HTTP 404"),
        ("/etc/passwd", "not one of Label Studio's"),
        ("data:image/png;base64,!", "not valid base64"),
    ],
)
def test_a_picture_that_cannot_be_had_is_the_service_s_own_sentence(
    world: World, image: str, fix: str
) -> None:
    world.studio.tasks[:] = [task(image)]
    sentence = assert_only(Status.FAULT, "picture", world.findings())
    assert sentence.startswith("Task 7: ")
    assert fix in sentence


def test_a_service_whose_own_token_is_refused_is_found_by_the_picture(world: World) -> None:
    """The shell's token is good; that of the service was revoked."""
    told = {
        **variables(world.studio, str(world.environment.label_studio_url)),
        "LABEL_STUDIO_ACCESS_TOKEN": personal_token(6_000_000_000),
    }
    world.studio.tasks[:] = [task("/data/upload/3/a.png")]
    with service_running(LocalService(Environment.model_validate(told), model=REAL)) as url:
        found = world.findings(url=url)
    sentence = assert_only(Status.FAULT, "picture", found)
    assert "check LABEL_STUDIO_ACCESS_TOKEN: it may be expired or revoked" in sentence


def test_a_picture_without_boxes_is_a_warning(world: World) -> None:
    world.service.finds_nothing = True
    sentence = assert_only(Status.WARNING, "picture", world.findings())
    assert "task 7: 0, in" in sentence
    assert "lower detection.box_threshold and detection.text_threshold" in sentence


# The command ------------------------------------------------------------------------------------


def command(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "LABEL_STUDIO_HOST": str(world.environment.label_studio_url),
        "LABEL_STUDIO_ACCESS_TOKEN": world.studio.token,
    }
    return subprocess.run(
        [PRELABEL, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment,
    )


@pytest.mark.slow
def test_the_doctor_s_status_and_its_lines(world: World) -> None:
    good = command(world, "doctor", "--url", world.url, "--project", "3")
    assert good.returncode == 0, good.stdout + good.stderr
    assert "0 faults, 0 warnings." in good.stdout
    world.studio.backends.clear()
    bad = command(world, "doctor", "--url", world.url, "--project", "3")
    assert bad.returncode == 1
    assert "1 fault, 0 warnings." in bad.stdout
    *findings, _ = bad.stdout.splitlines()
    assert len(findings) == len(world.findings()), "a pipe gets a line for each finding"
    flat = " ".join(bad.stdout.split())
    assert "fault backend No backend at" in flat
    assert "`prelabel connect --project 3 --url" in flat
    assert world.studio.token not in good.stdout + bad.stdout + good.stderr + bad.stderr


@pytest.mark.parametrize("blocks", ["all", "nothing"])
def test_a_backend_that_label_studio_may_not_ask_names_the_two_variables(
    world: World, blocks: str
) -> None:
    world.studio.blocks = blocks
    found = world.findings()["backend"]
    is_refused = blocks == "all"
    assert (found.status is Status.FAULT) is is_refused
    names = ("ML_BLOCK_LOCAL_IP=false", "SSRF_PROTECTION_ENABLED=false", "no public address")
    for name in names:
        assert (name in found.sentence) is is_refused


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_findings_fit_the_terminal(world: World, columns: int) -> None:
    written = io.StringIO()
    console = Console(file=written, width=columns, force_terminal=True, color_system=None)
    world.studio.backends.clear()
    assert not print_report(world.context, console, ROOMY)
    assert max(map(len, written.getvalue().splitlines())) <= columns
    flat = " ".join(written.getvalue().split())
    assert "fault backend No backend at" in flat


def test_findings_are_facts_for_a_program(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.studio.backends.clear()
    assert not print_report(world.context, Console(), ROOMY, json_output=True)
    facts = json.loads(capsys.readouterr().out)
    assert (facts["faults"], facts["warnings"]) == (1, 0)
    [fault] = [each for each in facts["findings"] if each["status"] == "fault"]
    assert fault.keys() == {"check", "status", "sentence"}
    assert fault["check"] == "backend"


@pytest.mark.slow
def test_connect_says_what_it_did_and_the_doctor_is_content(world: World) -> None:
    world.studio.backends.clear()
    for done in ("Connected to", "Updated in"):
        said = command(world, "connect", "--project", "3", "--url", world.url)
        assert said.returncode == 0, said.stderr
        assert said.stdout.startswith(f"{done} project 3 (Cats)")
    assert len(world.studio.backends) == 1
    assert command(world, "doctor", "--url", world.url, "--project", "3").returncode == 0


@pytest.mark.slow
def test_connect_s_errors_are_a_sentence_and_status_1(world: World) -> None:
    world.studio.blocks = "webhooks"
    world.studio.backends.clear()
    failed = command(world, "connect", "--project", "3", "--url", world.url)
    assert failed.returncode == 1
    assert failed.stderr.startswith("prelabel: Label Studio refuses private addresses")
    assert world.studio.backends == []


@pytest.mark.slow
def test_a_wrong_variable_is_named() -> None:
    done = subprocess.run(
        [PRELABEL, "doctor"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"LABEL_STUDIO_HOST": "ftp://studio"},
    )
    assert done.returncode == 1
    assert "LABEL_STUDIO_HOST is not an address such as" in done.stderr


def test_labels_that_no_model_has_a_word_of(world: World) -> None:
    config = CONFIG.replace("</RectangleLabels>", '<Label value="猫"/></RectangleLabels>')
    assert config != CONFIG
    world.studio.project["label_config"] = config
    finding = world.findings()["labeling config"]
    assert finding.status is Status.WARNING
    assert "no word of '猫'" in finding.sentence
    assert 'predicted_values="cat"' in finding.sentence
