"""`prelabel demo`: its projects, its account, and the start of its servers."""

from __future__ import annotations

import json
import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from label_studio_sdk.label_interface.interface import LabelInterface
from pydantic import SecretStr
from rich.console import Console

from prelabel.cli.demo import label_studio
from prelabel.cli.demo.account import DemoError, new_account, store, stored_account
from prelabel.cli.demo.existing import ExistingOptions, set_up_existing
from prelabel.cli.demo.projects import PROJECTS
from prelabel.cli.demo.servers import Server, ended_together, wait_until_up
from prelabel.cli.demo.start import StartOptions, run
from prelabel.cli.service_client import ServiceClient
from prelabel.errors import LabelStudioError, PrelabelError
from prelabel.labelstudio.labeling_config import parse_labeling_config
from prelabel.labelstudio.sign_up import sign_up
from prelabel.net.egress import Egress
from prelabel.settings import Environment
from tests.support.demo_cases import load_cases
from tests.support.fake_demo import DemoLabelStudio
from tests.support.fake_label_studio import LEGACY, running
from tests.support.http_server import serve
from tests.support.local_service import LocalService
from tests.support.local_service import running as service_running
from tests.support.paths import ROOT
from tests.support.processes import free_port

CONFIGS = ROOT / "examples/demo/configs"


class Demo:
    """A fake Label Studio, a service that fetches its pictures, and the demo's folder."""

    def __init__(self, studio: DemoLabelStudio, url: str, service: str, folder: Path) -> None:
        self.studio = studio
        self.folder = folder
        self._url, self._service = url, service

    def set_up(self, *, wait_s: float = 0, json_output: bool = False, **variables: str) -> str:
        """Run the command; return what its console received."""
        environment = Environment.model_validate({"LABEL_STUDIO_HOST": self._url, **variables})
        client = ServiceClient(self._service, None, Egress.plain())
        options = ExistingOptions(
            self._service, "http://localhost:8080", self.folder, wait_s, json_output
        )
        console = Console(width=200)
        with console.capture() as captured:
            set_up_existing(options, client, environment, console)
        return captured.get()

    @property
    def account(self) -> dict[str, str]:
        account: dict[str, str] = json.loads((self.folder / "account.json").read_text())
        return account


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Demo]:
    for name in ("LABEL_STUDIO_HOST", "LABEL_STUDIO_ACCESS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    studio = DemoLabelStudio()
    folder = tmp_path / "demo"
    with running(studio) as server:
        variables = {
            "LABEL_STUDIO_HOST": server.url,
            "LABEL_STUDIO_ACCESS_TOKEN_FILE": str(folder / "token"),
        }
        # The file is not there yet.
        with service_running(LocalService(Environment.model_validate(variables))) as service:
            yield Demo(studio, server.url, service, folder)


# The projects ----------------------------------------------------------------------------------


def test_the_projects_have_the_pictures_the_service_and_a_first_prediction(demo: Demo) -> None:
    said = demo.set_up()
    assert [each.project["title"] for each in demo.studio.projects.values()] == [
        each.title for each in PROJECTS
    ]
    pictures = {case.image.name for case in load_cases()}
    for number, project in demo.studio.projects.items():
        names = [task["data"]["image"].rpartition("/")[2] for task in project.tasks]
        assert names[0] == "garden.jpg"
        assert set(names) == pictures
        [backend] = project.backends
        assert backend["is_interactive"] is True
        assert len(project.webhooks) == 1
        [tab] = demo.studio.tabs[number]
        assert tab["data"]["hiddenColumns"] == {
            "explore": ["tasks:agreement", "tasks:data.meta"],
            "labeling": ["tasks:id", "tasks:data.meta"],
        }
        is_labels = project.project["title"] == "Demo: fixed labels"
        assert project.project["show_collab_predictions"] is is_labels
        assert (number in demo.studio.retrieved) is is_labels
        address = f"http://localhost:8080/projects/{number}/data?task={project.tasks[0]['id']}"
        assert address in said
    found = "created, connected; on its first picture the service finds 3 boxes"
    assert f"Demo: typed prompts: {found}.\n" in said
    assert f"Demo: masks and clicks: {found} and 3 masks.\n" in said


def test_a_second_call_finds_all_of_it_and_changes_nothing(demo: Demo) -> None:
    demo.set_up()
    studio = demo.studio
    studio.projects[1].project["label_config"] = changed = (CONFIGS / "labels.xml").read_text()
    before = json.dumps([each.tasks for each in studio.projects.values()])
    account = demo.account
    said = demo.set_up()
    assert said.count("is there, connected") == len(PROJECTS) == len(studio.projects)
    assert studio.projects[1].project["label_config"] == changed
    assert json.dumps([each.tasks for each in studio.projects.values()]) == before
    assert [len(each.backends) for each in studio.projects.values()] == [1, 1, 1]
    assert [len(each) for each in studio.tabs.values()] == [1, 1, 1]
    assert demo.account == account
    assert len(studio.users) == 1


def test_the_login_and_the_projects_are_facts_for_a_program(
    demo: Demo, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = demo.set_up(json_output=True)
    facts = json.loads(capsys.readouterr().out)
    assert facts["label_studio"] == "http://localhost:8080"
    assert facts["user"] == demo.account["user"]
    assert facts["password"] == demo.account["password"]
    assert [each["title"] for each in facts["projects"]] == [each.title for each in PROJECTS]
    assert facts["projects"][2].keys() == {
        *("project", "title", "address", "added", "boxes", "masks")
    }
    assert facts["password"] not in progress


def test_a_call_that_was_interrupted_is_completed(demo: Demo) -> None:
    demo.studio.drops = 1
    with pytest.raises(PrelabelError, match="Label Studio made 12 tasks of 13 pictures"):
        demo.set_up()
    demo.studio.drops = 0
    demo.studio.projects[1].tasks.clear()
    demo.set_up()
    assert [len(each.tasks) for each in demo.studio.projects.values()] == [13, 13, 13]


def test_servers_that_are_starting_are_waited_for(demo: Demo) -> None:
    demo.studio.starts_for = 1
    with pytest.raises(PrelabelError, match="is not Label Studio"):
        demo.set_up()
    demo.studio.starts_for = 2
    said = demo.set_up(wait_s=60)
    assert said.startswith("Waiting for Label Studio to start, for up to 60 s ...\n")
    assert said.count("created, connected") == len(PROJECTS)


def test_the_owner_of_a_token_needs_no_account(demo: Demo) -> None:
    demo.studio.takes_legacy = True
    (demo.folder).mkdir()
    (demo.folder / "token").write_text(LEGACY)  # the service's
    said = demo.set_up(LABEL_STUDIO_ACCESS_TOKEN=LEGACY)
    assert demo.studio.users == {}
    assert "password" not in said
    assert not (demo.folder / "account.json").exists()


@pytest.mark.parametrize("project", PROJECTS, ids=lambda each: each.config)
def test_the_labeling_configs_are_valid_and_their_labels_are_in_the_pictures(project: Any) -> None:
    xml = (CONFIGS / project.config).read_text()
    LabelInterface(xml).validate()  # type: ignore[no-untyped-call]
    parsed = parse_labeling_config(xml, 100)
    shown = {label for case in load_cases() for label, *_ in case.boxes}
    for control in parsed.controls:
        assert {label.value for label in control.labels} <= shown
    assert (parsed.prompt_area is not None) == (project.prompt is not None)


# The account -----------------------------------------------------------------------------------


def test_a_user_is_signed_up_whose_password_is_printed_and_kept_private(demo: Demo) -> None:
    said = demo.set_up()
    assert demo.studio.users == {"demo@localhost": demo.account["password"]}
    assert len(demo.account["password"]) >= 16
    assert f"password      {demo.account['password']}\n" in said
    for name in ("account.json", "token"):
        assert stat.S_IMODE((demo.folder / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(demo.folder.stat().st_mode) == 0o700
    assert (demo.folder / "token").read_text().strip() == demo.studio.token
    assert demo.studio.token not in said


def test_passwords_and_tokens_differ_between_demos() -> None:
    accounts = [new_account() for _ in range(2)]
    assert len({each.password for each in accounts} | {each.token for each in accounts}) == 4


def test_a_label_studio_that_signs_nobody_up_wants_a_token(demo: Demo) -> None:
    demo.studio.signs_up = False
    with pytest.raises(PrelabelError, match="Set LABEL_STUDIO_ACCESS_TOKEN to a token of one"):
        demo.set_up()
    assert not (demo.folder / "account.json").exists()


def test_a_server_without_a_page_to_sign_up_is_named() -> None:
    with (
        serve(lambda exchange, _: exchange.answer(404)) as server,
        pytest.raises(LabelStudioError, match="has no page to sign up, as Label Studio has"),
    ):
        sign_up(server.url, "a@example.com", SecretStr("password"), Egress.plain())


def test_a_label_studio_that_is_not_there_keeps_the_password_to_itself() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(LabelStudioError, match="does not answer") as caught:
        sign_up(url, "a@example.com", SecretStr("canary-password"), Egress.plain())
    assert "canary-password" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_without_an_address_of_label_studio_the_command_says_what_to_do(demo: Demo) -> None:
    with pytest.raises(PrelabelError, match="or let `prelabel demo --start` start one"):
        demo.set_up(LABEL_STUDIO_HOST="")


def test_an_account_that_cannot_be_read_says_how_to_start_afresh(tmp_path: Path) -> None:
    (tmp_path / "account.json").write_text("{")
    with pytest.raises(DemoError, match=f"Start afresh: remove the folder {tmp_path}"):
        stored_account(tmp_path)


def test_a_stored_account_is_the_same_again(tmp_path: Path) -> None:
    assert stored_account(tmp_path) is None
    account = new_account()
    store(account, tmp_path)
    assert stored_account(tmp_path) == account


# The servers -----------------------------------------------------------------------------------


def options(folder: Path, **ports: int) -> StartOptions:
    chosen = {"port": free_port(), "label_studio_port": free_port(), **ports}
    return StartOptions(folder=folder, program=Path(sys.executable), **chosen)


def refusal(chosen: StartOptions) -> str:
    with pytest.raises(PrelabelError) as caught:
        run(chosen, Console(quiet=True))
    return str(caught.value)


def test_a_missing_label_studio_is_named(tmp_path: Path) -> None:
    chosen = StartOptions(tmp_path, free_port(), free_port(), tmp_path / "label-studio")
    assert "Start the demo with `make demo`, which installs Label Studio" in refusal(chosen)


@pytest.mark.parametrize(
    ("option", "cure"), [("port", "PORT=9091"), ("label_studio_port", "LABEL_STUDIO_PORT=8081")]
)
def test_a_port_in_use_says_how_to_choose_another(tmp_path: Path, option: str, cure: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refusal(options(tmp_path, **{option: port}))
    assert f"Port {port} on 127.0.0.1 is in use." in said
    assert said.endswith(f"or set another port with `make demo {cure}`.")


def test_one_folder_has_one_demo_at_a_time(tmp_path: Path) -> None:
    holder = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print(1, flush=1)"
    with subprocess.Popen(
        [sys.executable, "-c", f"{holder}; sys.stdin.read()", tmp_path / "lock"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert f"A demo is running in {tmp_path}." in refusal(options(tmp_path))
        other.communicate()


def server(tmp_path: Path, program: str, *, is_up: bool = False) -> Server:
    log = tmp_path / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-c", program], stderr=output)
    return Server("The server", process, log, lambda: is_up)


def test_a_server_that_ends_while_it_starts_is_shown_with_the_end_of_its_log(
    tmp_path: Path,
) -> None:
    ending = server(tmp_path, "import sys; sys.exit('no space left')")
    with pytest.raises(DemoError, match="The server ended with status 1") as caught:
        wait_until_up([ending], print)
    assert str(caught.value).endswith("server.log:\nno space left")


def test_servers_are_interrupted_together_and_awaited(tmp_path: Path) -> None:
    servers = [server(tmp_path, "import time; time.sleep(600)", is_up=True) for _ in range(2)]
    said: list[str] = []
    with ended_together(servers):
        wait_until_up(servers, said.append)
    assert None not in [each.process.returncode for each in servers]
    assert len(said) == 2


def test_label_studio_listens_on_loopback_and_gets_no_secret_on_its_command_line(
    tmp_path: Path,
) -> None:
    account = new_account()
    command = " ".join(map(str, label_studio.command(Path("label-studio"), 8080)))
    assert "--internal-host 127.0.0.1" in command
    variables = label_studio.variables(tmp_path, account)
    for secret in (account.password, account.token):
        assert isinstance(secret, SecretStr)
        assert secret.get_secret_value() not in command
        assert secret.get_secret_value() in variables.values()


def test_the_steps_of_a_database_are_counted(tmp_path: Path) -> None:
    assert label_studio.count_migrations(tmp_path) == 0
    with closing(sqlite3.connect(tmp_path / "label_studio.sqlite3")) as database:
        database.execute("CREATE TABLE django_migrations (name)")
        database.executemany("INSERT INTO django_migrations VALUES (?)", [("a",), ("b",)])
        database.commit()
    assert label_studio.count_migrations(tmp_path) == 2
