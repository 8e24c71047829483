"""Connections to addresses that were checked, and an end to waiting for them."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import urldefragauth
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from prelabel.errors import ProxyError
from prelabel.net.origin import Origin
from prelabel.net.proxies import NEEDS_PASSWORD, Proxy

Resolve = Callable[[str, int], Collection[str]]
Connect = Callable[[str, int, float], socket.socket]
Dial = Callable[[str, int], socket.socket]


def resolve_host(host: str, port: int) -> tuple[str, ...]:
    """IP addresses of a name, in the system's order of preference."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


def connect_socket(address: str, port: int, timeout_s: float) -> socket.socket:
    """TCP connection to an IP address."""
    return socket.create_connection((address, port), timeout_s)


def why_unreachable(error: Exception) -> str:
    """Why no connection could be made, in a few words."""
    if isinstance(error, ConnectionRefusedError):
        return "it refuses the connection"
    if isinstance(error, TimeoutError):
        return "no connection in time"
    if isinstance(error, socket.gaierror | UnicodeError):
        return "its name is not known here"
    return "there is no way to it"


class Watchdog:
    """Shuts the watched sockets when the time is up, which ends any wait for them.

    Timeouts of sockets cannot do that: they start anew with every byte.
    """

    def __init__(self, total_s: float) -> None:
        self.total_s = total_s
        self._deadline = time.monotonic() + total_s
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []

    @property
    def remaining_s(self) -> float:
        """Seconds until it bites; negative after."""
        return self._deadline - time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        return self.remaining_s <= 0

    def watch(self, connection: socket.socket) -> socket.socket:
        """The same socket, watched from now on."""
        connection.settimeout(None)
        # A duplicate stays valid when TLS takes the socket over.
        with self._lock:
            self._sockets.append(connection.dup())
        if self.is_over:
            self.bite()
        return connection

    def bite(self) -> None:
        """Shut all watched sockets."""
        with self._lock:
            for connection in self._sockets:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def let_go(self) -> None:
        """Watch no socket any more."""
        with self._lock:
            for connection in self._sockets:
                connection.close()
            self._sockets.clear()


@contextmanager
def watchdog_for(total_s: float) -> Iterator[Watchdog]:
    """A watchdog that bites after `total_s` seconds unless the block has ended."""
    watchdog = Watchdog(total_s)
    timer = threading.Timer(total_s, watchdog.bite)
    timer.daemon = True
    timer.start()
    try:
        yield watchdog
    finally:
        timer.cancel()
        watchdog.let_go()


class _DialedHTTP(HTTPConnection):
    """Connects by `dial` instead of looking the host up itself."""

    def __init__(self, *args: Any, dial: Dial, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._dial = dial

    def _new_conn(self) -> socket.socket:
        return self._dial(self._dns_host, self.port)


class _DialedHTTPS(HTTPSConnection):
    """The same under TLS, which still verifies the host's name."""

    def __init__(self, *args: Any, dial: Dial, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._dial = dial

    def _new_conn(self) -> socket.socket:
        return self._dial(self._dns_host, self.port)


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _DialedHTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _DialedHTTPS


class DialingAdapter(HTTPAdapter):
    """Sends a request over a connection of its own. No session: no cookies, proxies or .netrc.

    forward: the HTTP proxy that `dial` connects to for http. It wants the whole address, and may
    want its password with each request.
    """

    def __init__(self, dial: Dial, tls: ssl.SSLContext, forward: Proxy | None = None) -> None:
        super().__init__()
        self._dial = dial
        self._tls = tls
        self._forward = forward

    def send(
        self, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> requests.Response:
        """The response's headers. Raises ProxyError where the proxy itself wants a password."""
        response = super().send(request, *args, **kwargs)
        if self._forward is not None and response.status_code == NEEDS_PASSWORD:
            response.close()
            origin = Origin.of(str(request.url))
            raise ProxyError(self._forward.refusal(NEEDS_PASSWORD, origin))
        return response

    def request_url(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> str:
        """What stands in the request's first line."""
        if self._forward is not None:
            return str(urldefragauth(str(request.url)))
        return str(super().request_url(request, *args, **kwargs))

    def add_headers(self, request: requests.PreparedRequest, **_kwargs: object) -> None:
        """The proxy's password, for the proxy that reads this request. None goes into a tunnel."""
        if self._forward is not None and self._forward.authorization:
            request.headers["Proxy-Authorization"] = self._forward.authorization

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, *_args: object, **_kwargs: object
    ) -> HTTPConnectionPool:
        """A pool for this request alone, whose connections are dialed."""
        origin = Origin.of(str(request.url))
        if origin.scheme == "https":
            return _HTTPSPool(origin.host, origin.port, dial=self._dial, ssl_context=self._tls)
        return _HTTPPool(origin.host, origin.port, dial=self._dial)

    def cert_verify(self, *args: object, **kwargs: object) -> None:
        """Nothing to do: the context verifies. (The base class would have every connection load
        the list of certificates again, some 30 ms.)"""
