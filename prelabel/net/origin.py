"""Origins of URLs (scheme, host, port), and URLs that mean the same address."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final, Protocol, Self
from urllib.parse import urlsplit

SERVICE_URL: Final = "http://127.0.0.1:9090"  # the address that serve_config.yaml listens on
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "::1")


class Credentials(Protocol):
    """Source of the Authorization header for requests to Label Studio."""

    def authorization(self, refused: str | None = None) -> str:
        """Return a value for the Authorization header.

        Args:
            refused: The value that the server just answered with 401. A new value is returned if
                one can be had, for example by refreshing an expired access token.
        """


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of a URL. A token is sent to an equal origin only.

    `str(origin)` is `host:port`.
    """

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Self:
        """Return the origin of an http(s) URL. Raises ValueError if the URL has no origin."""
        parts = urlsplit(url)
        if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
            raise ValueError("not an http or https URL")
        if parts.port == 0:
            raise ValueError("no port")
        port = DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
        return cls(parts.scheme, parts.hostname, port)

    def __str__(self) -> str:
        return f"{self.netloc_host}:{self.port}"

    @property
    def netloc_host(self) -> str:
        """The host as URLs write it: IPv6 addresses stand in brackets."""
        return f"[{self.host}]" if ":" in self.host else self.host


def is_loopback(host: str) -> bool:
    """Return True if a host name or IP address means this machine itself."""
    host = host.rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


def same_address(first: str, second: str) -> bool:
    """Return True if two http(s) URLs mean the same address.

    A trailing slash, a default port and the name used for loopback make no difference.
    """
    return _address_key(first) == _address_key(second)


def _address_key(url: str) -> tuple[object, ...]:
    url = url.strip().rstrip("/")
    try:
        origin = Origin.of(url)
    except ValueError:
        return (url,)
    host = "localhost" if origin.host in LOOPBACK_NAMES else origin.host
    return origin.scheme, host, origin.port, urlsplit(url).path
