"""The HTTP proxies of a company's network: which one is asked for an origin, and how.

http goes to a proxy as a request with the whole address, which the proxy reads. https goes through
a tunnel (CONNECT): the proxy learns host and port alone, and TLS is verified end to end. A proxy's
password goes to the proxy alone.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import unquote, urlsplit

from prelabel.errors import ProxyError
from prelabel.net.origin import Origin, is_loopback
from prelabel.net.pasted_text import unquoted

MAX_HEAD_BYTES: Final = 16 * 1024  # of a proxy's answer to CONNECT
NEEDS_PASSWORD: Final = 407
HOST_AND_PORT: Final = re.compile(r"(\[[^\]]+\]|[^:]+)(?::(\d+))?")


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy. variable: that names it. authorization: a header's value, and a secret."""

    variable: str
    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, variable: str, text: str) -> Self:
        """Read `http://user:password@host:port`. Raises ValueError with a sentence that repeats
        nothing of it.
        """
        url = unquoted(text)
        url = url if "://" in url else f"http://{url}"
        scheme = url.partition("://")[0].lower()
        if scheme != "http":
            raise ValueError(
                f"{variable} names a proxy that is spoken to by {scheme[:10]}, which is not "
                "supported. Write the address of an HTTP proxy, http://host:port, or unset it."
            )
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or 80
            if not re.fullmatch(r"[\w.:-]+", host):
                raise ValueError("no host")
        except ValueError:
            raise ValueError(
                f"{variable} is no address of a proxy. Write it as in http://host:port or "
                "http://user:password@host:port, with %40 for an @ in the password."
            ) from None
        return cls(variable, host, port, _authorization(parts.username, parts.password))

    def __str__(self) -> str:
        return f"the proxy {Origin('http', self.host, self.port)} ({self.variable})"

    def unreachable(self, reason: str) -> ProxyError:
        """The error for a proxy to which no connection can be made."""
        return ProxyError(
            f"{_capital(self)} cannot be reached: {reason}. Check {self.variable}, or name the "
            "hosts that are to be reached without it in NO_PROXY."
        )

    def refusal(self, status: int, origin: Origin) -> str:
        """The sentence for an HTTP status of the proxy itself."""
        if status == NEEDS_PASSWORD:
            if self.authorization is None:
                return (
                    f"{_capital(self)} wants a user name and password (HTTP {status}). Write them "
                    f"into {self.variable}: http://user:password@host:port."
                )
            return f"{_capital(self)} refuses the password (HTTP {status}) in {self.variable}."
        if status >= 500:
            return f"{_capital(self)} does not reach {origin} (HTTP {status}). Check the address."
        return (
            f"{_capital(self)} does not let requests through to {origin} (HTTP {status}). Have it "
            f"allowed there, or name the host in NO_PROXY if it can be reached directly."
        )


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies for http and https, and which hosts are reached without (NO_PROXY's entries)."""

    http: Proxy | None = None
    https: Proxy | None = None
    exempt: tuple[str, ...] = ()

    @classmethod
    def of(cls, urls: Mapping[str, str], no_proxy: str | None) -> Self:
        """Read the values of HTTP_PROXY, HTTPS_PROXY and ALL_PROXY, which stands in for either.

        Raises ValueError for the address of a proxy that would be asked and cannot be.
        """
        exempt = tuple(each for each in re.split(r"[\s,;|]+", unquoted(no_proxy or "")) if each)
        if "*" in exempt:
            return cls()

        def named(*variables: str) -> Proxy | None:
            given = [name for name in variables if unquoted(urls.get(name, ""))]
            return Proxy.of(given[0], urls[given[0]]) if given else None

        return cls(named("HTTP_PROXY", "ALL_PROXY"), named("HTTPS_PROXY", "ALL_PROXY"), exempt)

    def for_origin(self, origin: Origin) -> Proxy | None:
        """The proxy to ask for an origin; None where it is reached directly, as loopback is."""
        proxy = self.https if origin.scheme == "https" else self.http
        if proxy is None or is_loopback(origin.host):
            return None
        return None if any(_exempts(entry.lower(), origin) for entry in self.exempt) else proxy


DIRECT: Final = Proxies()


def open_tunnel(connection: socket.socket, proxy: Proxy, origin: Origin) -> None:
    """Have the proxy continue a connection to an origin. Raises ProxyError where it does not; the
    connection is closed then.
    """
    try:
        _connect_on(connection, proxy, origin)
    except BaseException:
        connection.close()
        raise


def _connect_on(connection: socket.socket, proxy: Proxy, origin: Origin) -> None:
    lines = [f"CONNECT {origin} HTTP/1.1", f"Host: {origin}"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    try:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        head = _read_head(connection)
    except OSError as error:
        late = isinstance(error, TimeoutError)
        reason = "it does not answer in time" if late else "it broke the connection"
        raise proxy.unreachable(reason) from None
    status = re.match(rb"HTTP/1\.[01] (\d{3})\b", head)
    if status is None:
        raise ProxyError(
            f"{_capital(proxy)} does not answer like an HTTP proxy. Check {proxy.variable}."
        )
    if not 200 <= int(status[1]) < 300:
        raise ProxyError(proxy.refusal(int(status[1]), origin))


def _read_head(connection: socket.socket) -> bytes:
    """An answer's head, and not a byte of what follows it."""
    head = bytearray()
    while not head.endswith(b"\r\n\r\n") and len(head) < MAX_HEAD_BYTES:
        byte = connection.recv(1)
        if not byte:
            break
        head += byte
    return bytes(head)


def _authorization(user: str | None, password: str | None) -> str | None:
    if user is None and password is None:
        return None
    pair = f"{unquote(user or '')}:{unquote(password or '')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _exempts(entry: str, origin: Origin) -> bool:
    """Return whether an entry of NO_PROXY names an origin.

    An entry is an address, a network, or a host with all names under it, each with a port or not.
    """
    try:
        network = ipaddress.ip_network(entry.strip("[]"), strict=False)
        return ipaddress.ip_address(origin.host) in network
    except ValueError:
        pass
    found = HOST_AND_PORT.fullmatch(entry)
    if found is None or (found[2] and int(found[2]) != origin.port):
        return False
    name, host = found[1].strip("[]").removeprefix("*").strip("."), origin.host.rstrip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _capital(proxy: Proxy) -> str:
    return f"T{str(proxy)[1:]}"
