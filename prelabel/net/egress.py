"""The way out: how requests to Label Studio and to a service elsewhere leave this process.

The hosts of pictures are checked besides: fetching.py has a connect step of its own.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import requests

from prelabel.net.origin import Origin
from prelabel.net.proxies import DIRECT, Proxies, Proxy, open_tunnel
from prelabel.net.tls import Trust, tls_context
from prelabel.net.transport import (
    DialingAdapter,
    Watchdog,
    connect_socket,
    resolve_host,
    why_unreachable,
)

Watch = Callable[[socket.socket], socket.socket]


@dataclass(frozen=True, slots=True)
class Egress:
    """The certificates that are believed, and the proxies that are asked."""

    tls: ssl.SSLContext
    proxies: Proxies = DIRECT

    @classmethod
    def of(cls, trust: Trust, proxies: Proxies) -> Egress:
        """Raises TrustError for certificates that cannot be read."""
        return cls(tls_context(trust), proxies)

    @classmethod
    def plain(cls) -> Egress:
        """Without any proxy, and with the usual certificates."""
        return cls(tls_context())

    def adapter(
        self, url: str, connect_s: float, watchdog: Watchdog | None = None
    ) -> DialingAdapter:
        """Sends requests to the origin of a URL. Raises ValueError if it has none.

        connect_s: longest wait for a connection, seconds. watchdog: ends all waiting, if given.
        """
        origin = Origin.of(url)
        proxy = self.proxies.for_origin(origin)
        watch = watchdog.watch if watchdog else _unwatched
        dial = partial(_dial, origin.scheme, proxy, connect_s, watch)
        return DialingAdapter(dial, self.tls, proxy if origin.scheme == "http" else None)

    def session(self, url: str, connect_s: float) -> requests.Session:
        """A session for the origin of a URL, without what the process environment says."""
        session = requests.Session()
        session.trust_env = False
        for scheme in ("http://", "https://"):
            session.mount(scheme, self.adapter(url, connect_s))
        return session


def reach_proxy(proxy: Proxy, connect_s: float) -> socket.socket:
    """A connection to a proxy. Raises ProxyError."""
    try:
        return _connect(proxy.host, proxy.port, connect_s, _unwatched)
    except (OSError, UnicodeError) as error:
        raise proxy.unreachable(why_unreachable(error)) from None


def _unwatched(connection: socket.socket) -> socket.socket:
    return connection


def _dial(
    scheme: str, proxy: Proxy | None, connect_s: float, watch: Watch, host: str, port: int
) -> socket.socket:
    """A connection to an origin, wherever it is, through the proxy if there is one."""
    if proxy is None:
        return _connect(host, port, connect_s, watch)
    connection = watch(reach_proxy(proxy, connect_s))
    if scheme == "https":
        open_tunnel(connection, proxy, Origin(scheme, host, port))
    return connection


def _connect(host: str, port: int, connect_s: float, watch: Watch) -> socket.socket:
    """A connection to the first address of a host that takes one."""
    refused: OSError = socket.gaierror(socket.EAI_NONAME, "no address")
    for address in resolve_host(host, port):
        try:
            return watch(connect_socket(address, port, connect_s))
        except OSError as error:
            refused = error
    raise refused
