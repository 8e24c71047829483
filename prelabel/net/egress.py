"""Outgoing HTTP connections to Label Studio and to other instances of the service.

Image downloads do not connect through this module: `images/fetch.py` checks every address first.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import requests

from prelabel.net.origin import Origin
from prelabel.net.proxies import DIRECT, Proxies, Proxy, open_tunnel
from prelabel.net.tls import Trust, tls_context
from prelabel.net.transport import (
    ConnectorAdapter,
    Watchdog,
    connect_socket,
    resolve_host,
    unreachable_reason,
)

Watch = Callable[[socket.socket], socket.socket]


class NetworkVariables(Protocol):
    """The variables of the environment that concern the network."""

    @property
    def trust(self) -> Trust:
        """The additional CA certificates."""

    @property
    def proxies(self) -> Proxies:
        """The proxies of outgoing connections."""


@dataclass(frozen=True, slots=True)
class Egress:
    """TLS context and proxies of outgoing connections."""

    tls: ssl.SSLContext
    proxies: Proxies = DIRECT

    @classmethod
    def of(cls, variables: NetworkVariables) -> Egress:
        """Load the CA certificates. Raises TrustError if they cannot be read."""
        return cls(tls_context(variables.trust), variables.proxies)

    @classmethod
    def plain(cls) -> Egress:
        """Return an egress without proxies and without additional CAs."""
        return cls(tls_context())

    def adapter(
        self, url: str, connect_s: float, watchdog: Watchdog | None = None
    ) -> ConnectorAdapter:
        """Return a requests adapter for the origin of a URL.

        Args:
            url: Any http(s) URL of that origin.
            connect_s: Connect timeout, seconds.
            watchdog: Total deadline that also ends reads, if given.

        Raises:
            ValueError: The URL has no origin.
        """
        origin = Origin.of(url)
        proxy = self.proxies.for_origin(origin)
        watch = watchdog.watch if watchdog else _unwatched
        connector = partial(_connect_to_origin, origin.scheme, proxy, connect_s, watch)
        return ConnectorAdapter(connector, self.tls, proxy if origin.scheme == "http" else None)

    def session(self, url: str, connect_s: float) -> requests.Session:
        """Return a session for the origin of a URL. connect_s: connect timeout, seconds."""
        session = requests.Session()
        # Otherwise requests would read proxies, CA bundles and .netrc from the process environment.
        session.trust_env = False
        for scheme in ("http://", "https://"):
            session.mount(scheme, self.adapter(url, connect_s))
        return session


def connect_to_proxy(proxy: Proxy, connect_s: float) -> socket.socket:
    """Open a connection to a proxy. Raises ProxyError if it cannot be reached."""
    try:
        return _connect(proxy.host, proxy.port, connect_s, _unwatched)
    except (OSError, UnicodeError) as error:
        raise proxy.unreachable(unreachable_reason(error)) from None


def _unwatched(connection: socket.socket) -> socket.socket:
    return connection


def _connect_to_origin(
    scheme: str, proxy: Proxy | None, connect_s: float, watch: Watch, host: str, port: int
) -> socket.socket:
    if proxy is None:
        return _connect(host, port, connect_s, watch)
    connection = watch(connect_to_proxy(proxy, connect_s))
    if scheme == "https":
        open_tunnel(connection, proxy, Origin(scheme, host, port))
    return connection


def _connect(host: str, port: int, connect_s: float, watch: Watch) -> socket.socket:
    """Try the addresses of a host in order. Raises the last OSError if none accepts."""
    last_error: OSError = socket.gaierror(socket.EAI_NONAME, "no address")
    for address in resolve_host(host, port):
        try:
            return watch(connect_socket(address, port, connect_s))
        except OSError as error:
            last_error = error
    raise last_error
