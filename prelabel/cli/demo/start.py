"""`prelabel demo --start`: starts Label Studio and the service, and sets the projects up.

The command runs this module as a child of the supervisor, which turns every termination signal into
one Ctrl-C and ends the processes that remain.
"""

from __future__ import annotations

import fcntl
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml
from rich.console import Console

from prelabel.cli.application import config_or_default
from prelabel.cli.connect import backend_form
from prelabel.cli.demo.account import (
    Account,
    DemoError,
    new_account,
    private_folder,
    store,
    stored_account,
    write_environment,
    write_private,
)
from prelabel.cli.demo.projects import set_up
from prelabel.cli.demo.screen import show_ready, shown_path
from prelabel.cli.demo.servers import (
    POLL_INTERVAL_S,
    Say,
    ended_together,
    start_label_studio,
    start_service,
    wait_until_up,
)
from prelabel.cli.options import service_client
from prelabel.cli.preflight import check_port, preflight
from prelabel.cli.supervisor import supervise
from prelabel.cli.terminal import Terminal, open_terminal, print_line
from prelabel.errors import PrelabelError
from prelabel.labelstudio.project_setup import ProjectSetupAPI
from prelabel.settings import read_environment
from prelabel.settings.ray_environment import name_label_studio, prepare_ray_environment

_HOST: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class StartOptions:
    """Options of `prelabel demo --start`.

    Attributes:
        folder: Keeps account, database, pictures, prompts and logs.
        port: Port of the service.
        label_studio_port: Port of Label Studio.
        program: Label Studio's own command.
    """

    folder: Path
    port: int
    label_studio_port: int
    program: Path

    @property
    def url(self) -> str:
        """Address of the service."""
        return f"http://{_HOST}:{self.port}"

    @property
    def label_studio_url(self) -> str:
        """Address of Label Studio."""
        return f"http://{_HOST}:{self.label_studio_port}"


def start(options: StartOptions) -> int:
    """Run the demo until Ctrl-C or another termination signal; return the exit status."""
    arguments = (options.folder, options.port, options.label_studio_port, options.program)
    return supervise([sys.executable, "-m", __name__, *map(str, arguments)])


def main(arguments: Sequence[str]) -> int:
    """Run the demo as a child of the supervisor; return the exit status."""
    folder, port, label_studio_port, program = arguments
    options = StartOptions(Path(folder), int(port), int(label_studio_port), Path(program))
    console = open_terminal()
    try:
        run(options, console)
    except PrelabelError as error:
        print_line(f"prelabel: {error}", Terminal(stderr=True))
        return 1
    except KeyboardInterrupt:
        print_line("Label Studio and the service have ended.", console)
    return 0


def run(options: StartOptions, console: Console) -> None:
    """Start both servers, set the projects up, and watch the servers.

    Raises:
        PrelabelError: The demo cannot start, or a server ended.
        KeyboardInterrupt: Ctrl-C. The servers have ended then.
    """

    def say(line: str) -> None:
        print_line(line, console)

    began_at = time.monotonic()
    if not options.program.is_file():
        raise DemoError(
            f"There is no {options.program}. Start the demo with `make demo`, which installs Label "
            "Studio, or give its command as --label-studio-program."
        )
    folder = private_folder(options.folder)
    with _held(folder):
        account = _account(folder, say)
        config = _checked_config(options, folder, account)
        environment = read_environment()
        password = environment.basic_auth_pass
        client = service_client(
            options.url,
            environment.basic_auth_user,
            password.get_secret_value() if password else None,
            environment,
        )
        form = backend_form(options.url, environment, title=None, interactive=True)
        api = ProjectSetupAPI(options.label_studio_url, account.token, client.egress)
        say(f"Label Studio and the service are starting; their logs are in {shown_path(folder)}.")
        servers = (
            start_label_studio(options.program, options.label_studio_port, folder, account, api),
            start_service(config, folder, client),
        )
        with ended_together(servers):
            wait_until_up(servers, say)
            ready = set_up(api, client, form, options.label_studio_url, say)
            variables = write_environment(account, options.label_studio_url, folder)
            show_ready(ready, account, options.label_studio_url, console)
            say(
                f"The folder {shown_path(folder)} keeps all of it. For other commands, in another "
                f"terminal: . {shown_path(variables)}"
            )
            say(f"Ready after {time.monotonic() - began_at:.0f} s. Ctrl-C ends both servers.")
            while True:
                for server in servers:
                    server.check()
                time.sleep(POLL_INTERVAL_S)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Let no second demo use the folder until the block ends. Raises DemoError if one does."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DemoError(
                f"A demo is running in {folder}. Use it, or end it with Ctrl-C in its terminal; "
                "a second one needs another --folder and other ports."
            ) from None
        yield


def _account(folder: Path, say: Say) -> Account:
    account = stored_account(folder)
    if account is None:
        account = new_account()
        store(account, folder)
        say(f"A new demo starts; the folder {shown_path(folder)} will keep it.")
    else:
        say(f"The demo of {shown_path(folder)} is started again.")
    return account


def _checked_config(options: StartOptions, folder: Path, account: Account) -> Path:
    """Write the service's config with its port, and set its variables in this process.

    Raises PreflightError, ModelError and SettingsError for what would keep the servers from
    starting, such as a port in use.
    """
    check_port(_HOST, options.label_studio_port, "with `make demo LABEL_STUDIO_PORT=8081`")
    check_port(_HOST, options.port, "with `make demo PORT=9091`")
    name_label_studio(options.label_studio_url, account.token.get_secret_value())
    prepare_ray_environment()
    config = yaml.safe_load(config_or_default(None).read_text(encoding="utf-8"))
    config["http_options"] |= {"host": _HOST, "port": options.port}
    for application in config["applications"]:
        prompts = str(folder / "prompts.sqlite")
        application["args"] = {**application["args"], "prompts": {"file": prompts}}
    path = folder / "serve_config.yaml"
    write_private(path, yaml.safe_dump(config, sort_keys=False))
    preflight(path)
    return path


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
