"""HTTP proxies: which proxy serves an origin (HTTP_PROXY, NO_PROXY), and CONNECT tunnels.

An http request is sent to the proxy with its absolute URL, and the proxy can read it. An https
request goes through a CONNECT tunnel: the proxy learns host and port only, and TLS is verified end
to end. A proxy's password is sent to the proxy only.
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

MAX_HEAD_BYTES: Final = 16 * 1024  # longest response head to CONNECT that is read
PROXY_AUTH_REQUIRED: Final = 407
HOST_AND_PORT: Final = re.compile(r"(\[[^\]]+\]|[^:]+)(?::(\d+))?")


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        variable: The environment variable that names the proxy; error messages repeat it.
        authorization: Value of the Proxy-Authorization header; a secret, so not in the repr.
    """

    variable: str
    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, variable: str, text: str) -> Self:
        """Parse `http://user:password@host:port`.

        Raises ValueError with a message that does not repeat the text, which may hold a password.
        """
        url = unquoted(text)
        url = url if "://" in url else f"http://{url}"
        scheme = url.partition("://")[0].lower()
        if scheme != "http":
            raise ValueError(
                f"{variable} names a proxy of the scheme {scheme[:10]}, which is not supported. "
                "Set it to the address of an HTTP proxy, http://host:port, or unset it."
            )
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or 80
            if not re.fullmatch(r"[\w.:-]+", host):
                raise ValueError("not a host")
        except ValueError:
            raise ValueError(
                f"{variable} is not the address of a proxy. Write it as in http://host:port or "
                "http://user:password@host:port, with %40 for an @ in the password."
            ) from None
        return cls(variable, host, port, _authorization(parts.username, parts.password))

    def __str__(self) -> str:
        return f"the proxy {Origin('http', self.host, self.port)} ({self.variable})"

    def unreachable(self, reason: str) -> ProxyError:
        """Return the error for a proxy that cannot be connected to."""
        return ProxyError(
            f"{_capitalised(self)} cannot be reached: {reason}. Check {self.variable}, or list the "
            "hosts that need no proxy in NO_PROXY."
        )

    def refusal(self, status: int, origin: Origin) -> str:
        """Return the message for an HTTP error status of the proxy itself."""
        if status == PROXY_AUTH_REQUIRED:
            if self.authorization is None:
                return (
                    f"{_capitalised(self)} requires a user name and password (HTTP {status}). Add "
                    f"them to {self.variable}: http://user:password@host:port."
                )
            return (
                f"{_capitalised(self)} rejects its password (HTTP {status}). Correct it in "
                f"{self.variable}."
            )
        if status >= 500:
            return f"{_capitalised(self)} cannot reach {origin} (HTTP {status}). Check the address."
        return (
            f"{_capitalised(self)} blocks requests to {origin} (HTTP {status}). Allow the host "
            f"there, or list it in NO_PROXY if it can be reached directly."
        )


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies for http and https. exempt: the entries of NO_PROXY."""

    http: Proxy | None = None
    https: Proxy | None = None
    exempt: tuple[str, ...] = ()

    @classmethod
    def of(cls, urls: Mapping[str, str], no_proxy: str | None) -> Self:
        """Parse HTTP_PROXY, HTTPS_PROXY and NO_PROXY; ALL_PROXY is the fallback of the first two.

        Args:
            urls: Values of the first three variables, by their names.
            no_proxy: Value of NO_PROXY.

        Raises:
            ValueError: A proxy that would be used has an invalid address.
        """
        exempt = tuple(each for each in re.split(r"[\s,;|]+", unquoted(no_proxy or "")) if each)
        if "*" in exempt:
            return cls()

        def first_set(*variables: str) -> Proxy | None:
            set_names = [name for name in variables if unquoted(urls.get(name, ""))]
            return Proxy.of(set_names[0], urls[set_names[0]]) if set_names else None

        http, https = first_set("HTTP_PROXY", "ALL_PROXY"), first_set("HTTPS_PROXY", "ALL_PROXY")
        return cls(http, https, exempt)

    def for_origin(self, origin: Origin) -> Proxy | None:
        """Return the proxy for an origin; None for a direct one, always to loopback."""
        proxy = self.https if origin.scheme == "https" else self.http
        if proxy is None or is_loopback(origin.host):
            return None
        return None if any(_exempts(entry.lower(), origin) for entry in self.exempt) else proxy


DIRECT: Final = Proxies()


def open_tunnel(connection: socket.socket, proxy: Proxy, origin: Origin) -> None:
    """Open a CONNECT tunnel to an origin on a connection to a proxy.

    Raises ProxyError if the proxy refuses or does not answer; the connection is closed then.
    """
    try:
        _send_connect(connection, proxy, origin)
    except BaseException:
        connection.close()
        raise


def _send_connect(connection: socket.socket, proxy: Proxy, origin: Origin) -> None:
    lines = [f"CONNECT {origin} HTTP/1.1", f"Host: {origin}"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    try:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        head = _read_head(connection)
    except OSError as error:
        timed_out = isinstance(error, TimeoutError)
        reason = "it did not answer in time" if timed_out else "it closed the connection"
        raise proxy.unreachable(reason) from None
    status = re.match(rb"HTTP/1\.[01] (\d{3})\b", head)
    if status is None:
        raise ProxyError(
            f"{_capitalised(proxy)} does not answer as an HTTP proxy does. Check {proxy.variable}."
        )
    if not 200 <= int(status[1]) < 300:
        raise ProxyError(proxy.refusal(int(status[1]), origin))


def _read_head(connection: socket.socket) -> bytes:
    head = bytearray()
    # Byte by byte, because bytes after the head belong to the TLS handshake.
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
    """Return True if an entry of NO_PROXY covers an origin.

    An entry is an IP address, a network, or a domain with all its subdomains. A domain may have a
    port.
    """
    try:
        network = ipaddress.ip_network(entry.strip("[]"), strict=False)
        return ipaddress.ip_address(origin.host) in network
    except ValueError:
        pass
    match = HOST_AND_PORT.fullmatch(entry)
    if match is None or (match[2] and int(match[2]) != origin.port):
        return False
    name, host = match[1].strip("[]").removeprefix("*").strip("."), origin.host.rstrip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _capitalised(proxy: Proxy) -> str:
    return f"T{str(proxy)[1:]}"
