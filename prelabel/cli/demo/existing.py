"""`prelabel demo`: sets the projects up in a Label Studio and with a service that run already."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from prelabel.cli.connect import ConnectError, backend_form
from prelabel.cli.demo.account import (
    Account,
    new_account,
    private_folder,
    store,
    stored_account,
    write_private,
)
from prelabel.cli.demo.projects import set_up
from prelabel.cli.demo.screen import facts_of, show_ready
from prelabel.cli.service_client import NOT_NOW, ServiceClient
from prelabel.cli.service_start import check_state
from prelabel.cli.terminal import print_json, print_line
from prelabel.errors import LabelStudioError
from prelabel.labelstudio.project_setup import ProjectSetupAPI
from prelabel.labelstudio.rest import LabelStudioAPI
from prelabel.labelstudio.sign_up import sign_up
from prelabel.net.egress import Egress
from prelabel.settings import Environment

_POLL_INTERVAL_S: Final = 1.0
_TOKEN_NAME: Final = "token"  # noqa: S105


@dataclass(frozen=True, slots=True)
class ExistingOptions:
    """Options of `prelabel demo` for a Label Studio and a service that run already.

    Attributes:
        backend_url: Address of the service as Label Studio reaches it.
        browser_url: Address of Label Studio as a browser reaches it.
        folder: Keeps the account of a user who is signed up; unused if the environment has a token.
        wait_s: Longest wait for each of both servers, seconds.
        json_output: Print the result as JSON; the console still receives the progress.
    """

    backend_url: str
    browser_url: str | None
    folder: Path
    wait_s: float
    json_output: bool = False


def set_up_existing(
    options: ExistingOptions, client: ServiceClient, environment: Environment, console: Console
) -> None:
    """Set the projects up with the environment's token. Without one, sign a user up first.

    Raises PrelabelError with a message to show. Another call continues.
    """
    url = environment.label_studio_url
    if url is None:
        raise ConnectError(
            "This shell has no LABEL_STUDIO_HOST. Export Label Studio's address, or let "
            "`prelabel demo --start` start one."
        )

    def say(line: str) -> None:
        print_line(line, console)

    browser_url = (options.browser_url or url).rstrip("/")
    # The version needs no token.
    api = LabelStudioAPI(url, new_account().token, client.egress)
    _wait_for("Label Studio", api.version, options.wait_s, say)
    account = None
    token = environment.label_studio_token
    if token is None:
        account = _account(url, options.folder, client.egress)
        token = account.token
    _wait_for("the service", lambda: check_state(client.health(), client.url), options.wait_s, say)
    form = backend_form(options.backend_url, environment, title=None, interactive=True)
    ready = set_up(ProjectSetupAPI(url, token, client.egress), client, form, browser_url, say)
    if options.json_output:
        print_json(facts_of(ready, account, browser_url))
    else:
        show_ready(ready, account, browser_url, console)


def _account(url: str, folder: Path, egress: Egress) -> Account:
    """Return the folder's account, signed up now if there is none.

    Its token is in a file of its own, too, for LABEL_STUDIO_ACCESS_TOKEN_FILE of the service.
    """
    account = stored_account(private_folder(folder))
    if account is None:
        draft = new_account()
        account = draft.model_copy(
            update={"token": sign_up(url, draft.user, draft.password, egress)}
        )
        store(account, folder)
    write_private(folder / _TOKEN_NAME, account.token.get_secret_value() + "\n")
    return account


def _wait_for(
    name: str, question: Callable[[], object], wait_s: float, say: Callable[[str], None]
) -> None:
    """Return once a server answers the question. Containers start together, in any order.

    Raises what the question raises, after `wait_s` seconds without an answer.
    """
    deadline = time.monotonic() + wait_s
    is_said = False
    while True:
        try:
            question()
            return
        # While Label Studio starts, its container's web server answers in its place.
        except (LabelStudioError, *NOT_NOW):
            if time.monotonic() >= deadline:
                raise
        if not is_said:
            is_said = True
            say(f"Waiting for {name} to start, for up to {wait_s:g} s ...")
        time.sleep(_POLL_INTERVAL_S)
