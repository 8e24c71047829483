"""Waiting for a service that is starting: `make serve` takes some seconds until it answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import urlsplit

from prelabel.cli.service_client import (
    Health,
    ServiceClient,
    ServiceError,
    ServiceStartingError,
    ServiceUnreachableError,
)
from prelabel.net.origin import LOOPBACK_NAMES

_POLL_INTERVAL_S = 0.5
# Share of the whole wait after which a closed port is given up. Ray opens the port within that
# time; the model loads after.
_CLOSED_PORT_SHARE = 1 / 3


def wait_until_up(
    client: ServiceClient, timeout_s: float, on_wait: Callable[[float], None]
) -> None:
    """Return once the service can answer a predict request.

    A closed port on this machine is polled for a third of the timeout, because Ray may be about to
    open it; a closed port elsewhere is an error at once.

    Args:
        client: Client of the service.
        timeout_s: Longest wait, seconds.
        on_wait: Called between two polls with the seconds waited so far.

    Raises:
        ServiceError: The service cannot start, or was not up in time.
    """
    started_at = time.monotonic()
    closed_port_timeout_s = timeout_s * _CLOSED_PORT_SHARE if _is_local(client.url) else 0
    while True:
        limit_s = timeout_s
        try:
            check_state(client.health(), client.url)
            return
        except ServiceStartingError as error:
            failure: ServiceError = error
            # HAProxy restarts once the ingress is up, and its port is closed meanwhile.
            closed_port_timeout_s = timeout_s
        except ServiceUnreachableError as error:
            failure, limit_s = error, closed_port_timeout_s
        waited_s = time.monotonic() - started_at
        if waited_s >= limit_s:
            raise failure
        on_wait(waited_s)
        time.sleep(_POLL_INTERVAL_S)


def check_state(health: Health, url: str) -> None:
    """Raise ServiceStartingError while the model loads, ServiceError if loading it failed."""
    if health.status == "STARTING":
        raise ServiceStartingError(
            f"The service at {url} is starting: its model is not loaded yet. Try again in a "
            "minute; if that does not help, read its output."
        )
    if health.status == "DOWN":
        raise ServiceError(
            f"The service at {url} could not load its model. Its output and `serve status` give "
            "the reason."
        )


def _is_local(url: str) -> bool:
    return urlsplit(url).hostname in LOOPBACK_NAMES
