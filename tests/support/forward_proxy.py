"""A real HTTP proxy on loopback: tunnels for CONNECT, and requests with a whole address.

It resolves its own names, and connects to loopback only.
"""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from urllib.parse import urlsplit

from tests.support.http_server import Exchange, LocalServer, Received

HOP_BY_HOP = {"proxy-authorization", "proxy-connection", "connection", "transfer-encoding"}


@dataclass
class ForwardProxy:
    """behind: `host:port` -> the port on loopback that it stands for. password: that it wants.
    status: what it answers to everything, in place of doing it.
    """

    behind: dict[str, int] = field(default_factory=dict)
    password: str | None = None
    status: int | None = None
    url: str = ""
    received: list[Received] = field(default_factory=list)

    @property
    def asked(self) -> list[str]:
        """First lines of all requests, without the version."""
        return [f"{received.method} {received.path}" for received in self.received]

    def respond(self, exchange: Exchange, received: Received) -> None:
        self.received.append(received)
        refusal = self._refusal(received)
        if refusal:
            exchange.answer(refusal, b"PROXY TEXT", Proxy_Authenticate='Basic realm="proxy"')
        elif received.method == "CONNECT":
            self._tunnel(exchange, received.path)
        else:
            self._forward(exchange, received)

    def _refusal(self, received: Received) -> int | None:
        if self.password is not None:
            wanted = base64.b64encode(self.password.encode()).decode()
            if received.headers.get("Proxy-Authorization") != f"Basic {wanted}":
                return 407
        if self.status is not None:
            return self.status
        parts = urlsplit(received.path if "://" in received.path else f"//{received.path}")
        return None if f"{parts.hostname}:{parts.port or 80}" in self.behind else 502

    def _forward(self, exchange: Exchange, received: Received) -> None:
        parts = urlsplit(received.path)
        port = self.behind[f"{parts.hostname}:{parts.port or 80}"]
        headers = {k: v for k, v in received.headers.items() if k.lower() not in HOP_BY_HOP}
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(received.method, target or "/", received.body, headers)
        answer = connection.getresponse()
        body = answer.read()
        kept = {k: v for k, v in answer.getheaders() if k.lower() in ("location", "content-type")}
        exchange.answer(answer.status, body, **kept)
        connection.close()

    def _tunnel(self, exchange: Exchange, target: str) -> None:
        with socket.create_connection(("127.0.0.1", self.behind[target])) as server:
            exchange.send_response(200, "Connection established")
            exchange.end_headers()
            exchange.wfile.flush()
            back = threading.Thread(target=_pump, args=(server, exchange.connection), daemon=True)
            back.start()
            _pump(exchange.connection, server)
            back.join(5)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class _Exchange(Exchange):
    def do_CONNECT(self) -> None:  # noqa: N802
        self._respond()


@contextmanager
def proxying(proxy: ForwardProxy) -> Iterator[ForwardProxy]:
    """The proxy, until the block ends."""
    with LocalServer(proxy.respond) as server:
        server.RequestHandlerClass = _Exchange
        proxy.url = server.url
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()
