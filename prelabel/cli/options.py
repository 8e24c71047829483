"""Options that several commands have, and the panels of the help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from prelabel.cli.service_client import ServiceClient
    from prelabel.settings import Environment

SERVICE_PANEL: Final = "The service"
MODELS_PANEL: Final = "Models"
PROJECTS_PANEL: Final = "Projects of Label Studio"
SHELL_PANEL: Final = "The shell"

CONNECTION: Final = "Connection"
OUTPUT: Final = "Output"

ServiceUrl = Annotated[
    str, typer.Option(help="Address of the service.", rich_help_panel=CONNECTION)
]
User = Annotated[
    str | None,
    typer.Option(
        envvar="BASIC_AUTH_USER", help="User name of basic auth.", rich_help_panel=CONNECTION
    ),
]
Password = Annotated[
    str | None,
    typer.Option(
        envvar="BASIC_AUTH_PASS", help="Password of basic auth.", rich_help_panel=CONNECTION
    ),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print JSON for a program.", rich_help_panel=OUTPUT),
]


def service_client(
    url: str, user: str | None, password: str | None, environment: Environment
) -> ServiceClient:
    """Return a client of the service; imports its libraries when it is called."""
    from prelabel.cli.service_client import ServiceClient
    from prelabel.net.egress import Egress

    auth = (user or "", password or "") if user or password else None
    return ServiceClient(url.rstrip("/"), auth, Egress.of(environment))
