"""Waits for a service that is starting: between `make serve` and an answer are some seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import urlsplit

from prelabel.cli.service_client import AskError, Health, SilentError, StartingError, ask_health
from prelabel.net.egress import Egress
from prelabel.net.origin import LOOPBACK_NAMES

_PAUSE_S = 0.5
_SILENT_SHARE = 1 / 3  # of the whole wait: Ray takes that long to listen, the model loads after


def wait_until_up(
    url: str,
    auth: tuple[str, str] | None,
    egress: Egress,
    longest_s: float,
    say: Callable[[float], None],
) -> None:
    """Return once the service can answer a predict; `say` is told the seconds waited, in between.

    Where nothing listens, the service may be about to: on this machine that is waited for during a
    third of the time. Raises AskError with the sentence to show where the time was not enough.
    """
    began = time.monotonic()
    may_be_silent_s = longest_s * _SILENT_SHARE if _is_here(url) else 0
    while True:
        limit_s = longest_s
        try:
            check_state(ask_health(url, auth, egress), url)
            return
        except StartingError as error:
            failure: AskError = error
            may_be_silent_s = longest_s  # HAProxy is replaced when the ingress is there
        except SilentError as error:
            failure, limit_s = error, may_be_silent_s
        waited_s = time.monotonic() - began
        if waited_s >= limit_s:
            raise failure
        say(waited_s)
        time.sleep(_PAUSE_S)


def check_state(health: Health, url: str) -> None:
    """Raises StartingError while the model loads, AskError where that failed."""
    if health.status == "STARTING":
        raise StartingError(
            f"The service at {url} is starting: its model is not loaded yet. Try again in a "
            "minute; if that does not help, its output says why."
        )
    if health.status == "DOWN":
        raise AskError(
            f"The service at {url} could not load its model. Its output says why, and so does "
            "`serve status`."
        )


def _is_here(url: str) -> bool:
    return urlsplit(url).hostname in LOOPBACK_NAMES
