"""Declares `prelabel demo` and its options; imports its work when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from prelabel.cli.options import CONNECTION, AsJson, Password, ServiceUrl, User, service_client
from prelabel.cli.terminal import open_terminal
from prelabel.net.origin import SERVICE_URL

STARTING: Final = "With --start"

BackendUrl = Annotated[
    str | None,
    typer.Option(
        help="Address of the service as Label Studio reaches it. Default: --url.",
        rich_help_panel=CONNECTION,
    ),
]
BrowserUrl = Annotated[
    str | None,
    typer.Option(
        help="Address of Label Studio as a browser reaches it. Default: LABEL_STUDIO_HOST.",
        rich_help_panel=CONNECTION,
    ),
]


def demo(
    start: Annotated[
        bool, typer.Option("--start", help="Start Label Studio and the service, until Ctrl-C.")
    ] = False,
    folder: Annotated[
        Path, typer.Option(help="Folder of the account and, with --start, of all data.")
    ] = Path(".demo"),
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of the service.", rich_help_panel=STARTING)
    ] = 9090,
    label_studio_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of Label Studio.", rich_help_panel=STARTING)
    ] = 8080,
    label_studio_program: Annotated[
        Path, typer.Option(help="Label Studio's command.", rich_help_panel=STARTING)
    ] = Path(".venv-labelstudio/bin/label-studio"),
    url: ServiceUrl = SERVICE_URL,
    backend_url: BackendUrl = None,
    browser_url: BrowserUrl = None,
    user: User = None,
    password: Password = None,
    wait: Annotated[
        float,
        typer.Option(
            min=0, help="Seconds to wait for servers that are starting.", rich_help_panel=CONNECTION
        ),
    ] = 60,
    json_output: AsJson = False,
) -> None:
    """Set up demo projects in Label Studio: typed prompts, fixed labels, masks and clicks.

    Creates the projects with the demo pictures, connects the service to them, and prints where to
    log in and what to try. Without LABEL_STUDIO_ACCESS_TOKEN it signs a user up. Projects that are
    there already are kept. With --start it also starts Label Studio and the service.
    """
    if start and json_output:
        raise typer.BadParameter("--json cannot be used with --start, which runs until Ctrl-C.")
    if start:
        from prelabel.cli.demo.start import StartOptions
        from prelabel.cli.demo.start import start as start_demo

        options = StartOptions(folder, port, label_studio_port, label_studio_program)
        raise typer.Exit(start_demo(options))
    from prelabel.cli.demo.existing import ExistingOptions, set_up_existing
    from prelabel.settings import read_environment

    environment = read_environment()
    client = service_client(url, user, password, environment)
    existing = ExistingOptions(backend_url or url, browser_url, folder, wait, json_output)
    set_up_existing(existing, client, environment, open_terminal(json_output=json_output))
