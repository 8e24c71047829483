"""Options that several commands have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from prelabel.cli.service_client import ServiceClient
    from prelabel.settings import Environment

ServiceUrl = Annotated[str, typer.Option(help="Address of the service.")]
User = Annotated[
    str | None, typer.Option(envvar="BASIC_AUTH_USER", help="User name of basic auth.")
]
Password = Annotated[
    str | None, typer.Option(envvar="BASIC_AUTH_PASS", help="Password of basic auth.")
]


def service_client(
    url: str, user: str | None, password: str | None, environment: Environment
) -> ServiceClient:
    """Return a client of the service; imports its libraries when it is called."""
    from prelabel.cli.service_client import ServiceClient
    from prelabel.net.egress import Egress

    auth = (user or "", password or "") if user or password else None
    return ServiceClient(url.rstrip("/"), auth, Egress.of(environment))
