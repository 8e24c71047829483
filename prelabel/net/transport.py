"""A requests adapter whose connections the caller opens, and a total deadline for sockets."""

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
from prelabel.net.proxies import PROXY_AUTH_REQUIRED, Proxy

Resolve = Callable[[str, int], Collection[str]]  # host, port -> IP addresses
Connect = Callable[[str, int, float], socket.socket]  # IP address, port, timeout in seconds
Connector = Callable[[str, int], socket.socket]  # host, port -> open connection


def resolve_host(host: str, port: int) -> tuple[str, ...]:
    """Return the IP addresses of a host, in the system's order of preference."""
    entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in entries))


def connect_socket(address: str, port: int, timeout_s: float) -> socket.socket:
    """Open a TCP connection to an IP address."""
    return socket.create_connection((address, port), timeout_s)


def unreachable_reason(error: Exception) -> str:
    """Return the reason of a failed connection, as a clause for an error message."""
    if isinstance(error, ConnectionRefusedError):
        return "it refuses the connection"
    if isinstance(error, TimeoutError):
        return "the connection timed out"
    if isinstance(error, socket.gaierror | UnicodeError):
        return "its name is not known here"
    return "there is no route to it"


class Watchdog:
    """Shuts watched sockets down at a total deadline, which ends every read and write on them.

    A socket timeout cannot do that: it restarts with every byte, so a slow server never exceeds it.
    """

    def __init__(self, total_s: float) -> None:
        self.total_s = total_s
        self._deadline = time.monotonic() + total_s
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline; negative after it."""
        return self._deadline - time.monotonic()

    @property
    def is_over(self) -> bool:
        """True once the deadline has passed."""
        return self.remaining_s <= 0

    def watch(self, connection: socket.socket) -> socket.socket:
        """Watch a socket and return it. Past the deadline, the socket is shut down at once."""
        connection.settimeout(None)
        # TLS detaches the file descriptor from the original socket; a duplicate stays valid.
        with self._lock:
            self._sockets.append(connection.dup())
        if self.is_over:
            self.shut_down()
        return connection

    def shut_down(self) -> None:
        """Shut all watched sockets down."""
        with self._lock:
            for connection in self._sockets:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Stop watching all sockets."""
        with self._lock:
            for connection in self._sockets:
                connection.close()
            self._sockets.clear()


@contextmanager
def watchdog_for(total_s: float) -> Iterator[Watchdog]:
    """Run a block with a watchdog that shuts sockets down after `total_s` seconds."""
    watchdog = Watchdog(total_s)
    timer = threading.Timer(total_s, watchdog.shut_down)
    timer.daemon = True
    timer.start()
    try:
        yield watchdog
    finally:
        timer.cancel()
        watchdog.release()


class _ConnectorHTTPConnection(HTTPConnection):
    def __init__(self, *args: Any, connector: Connector, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connector = connector

    # urllib3 would resolve the host here once more and connect to an address that was not checked.
    def _new_conn(self) -> socket.socket:
        return self._connector(self._dns_host, self.port)


class _ConnectorHTTPSConnection(HTTPSConnection):
    """A connection whose certificate urllib3 verifies against the host name, not the address."""

    def __init__(self, *args: Any, connector: Connector, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connector = connector

    def _new_conn(self) -> socket.socket:
        return self._connector(self._dns_host, self.port)


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _ConnectorHTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _ConnectorHTTPSConnection


class ConnectorAdapter(HTTPAdapter):
    """A requests adapter that opens a new connection for each request with a connector function.

    Used without a session it sends no cookies and reads neither proxies nor .netrc from the
    environment.

    Args:
        connector: Opens the connection for a host and port, directly or through a proxy.
        tls: Context that verifies https servers.
        forward_proxy: The HTTP proxy that the connector connects to for http URLs, if any. Such a
            proxy expects the absolute URL in the request line, and its password in each request.
    """

    def __init__(
        self, connector: Connector, tls: ssl.SSLContext, forward_proxy: Proxy | None = None
    ) -> None:
        super().__init__()
        self._connector = connector
        self._tls = tls
        self._forward_proxy = forward_proxy

    def send(
        self, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> requests.Response:
        """Send a request. Raises ProxyError if the proxy demands credentials (407)."""
        response = super().send(request, *args, **kwargs)
        if self._forward_proxy is not None and response.status_code == PROXY_AUTH_REQUIRED:
            response.close()
            origin = Origin.of(str(request.url))
            raise ProxyError(self._forward_proxy.refusal(PROXY_AUTH_REQUIRED, origin))
        return response

    def request_url(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> str:
        """Return the target of the request line: the absolute URL for a forward proxy."""
        if self._forward_proxy is not None:
            return str(urldefragauth(str(request.url)))
        return str(super().request_url(request, *args, **kwargs))

    def add_headers(self, request: requests.PreparedRequest, **_kwargs: object) -> None:
        """Add the password of a forward proxy. Requests inside a tunnel never carry it."""
        if self._forward_proxy is not None and self._forward_proxy.authorization:
            request.headers["Proxy-Authorization"] = self._forward_proxy.authorization

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, *_args: object, **_kwargs: object
    ) -> HTTPConnectionPool:
        """Return a pool for this request alone, whose connections the connector opens."""
        origin = Origin.of(str(request.url))
        if origin.scheme == "https":
            return _HTTPSPool(
                origin.host, origin.port, connector=self._connector, ssl_context=self._tls
            )
        return _HTTPPool(origin.host, origin.port, connector=self._connector)

    def cert_verify(self, *args: object, **kwargs: object) -> None:
        """Do nothing: the TLS context verifies.

        The base class would load the CA bundle again for every connection, which takes about 30 ms.
        """
