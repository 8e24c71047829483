"""Hosts and addresses: what belongs to the public internet, and who is who."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final, Protocol, Self
from urllib.parse import urlsplit

SERVICE_URL: Final = "http://127.0.0.1:9090"  # as serve_config.yaml has it
DEFAULT_PORTS: Final = {"http": 80, "https": 443}

# What is not the public internet: IANA's special-purpose registries (RFC 6890 and successors),
# multicast, and the one public address that is a cloud's metadata service (Azure's 168.63.129.16).
# A table of our own, because the one in `ipaddress` differs between patch releases of Python.
# fmt: off
PRIVATE_IPV4: Final = tuple(ipaddress.IPv4Network(network) for network in (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32",
    "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24",
    "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4",
    "240.0.0.0/4",
))
PRIVATE_IPV6: Final = tuple(ipaddress.IPv6Network(network) for network in (
    "2001::/23", "2001:db8::/32", "3fff::/20",
))
# fmt: on
PUBLIC_IPV6: Final = ipaddress.IPv6Network("2000::/3")
NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")

# The Fetch standard's bad ports: of protocols whose servers may act on what they understand of a
# request. Browsers show no picture from there.
# fmt: off
BAD_PORTS: Final = frozenset((
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101,
    102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427,
    465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990,
    993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667,
    6668, 6669, 6679, 6697, 10080,
))
# fmt: on
LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "::1")

# Browsers and resolvers take a host whose last part is a number for an IPv4 address: decimal,
# octal or hexadecimal, of one to four parts.
NUMERIC_HOST: Final = re.compile(r"(^|\.)(\d+|0x[0-9a-f]*)\.?$", re.IGNORECASE)


class Credentials(Protocol):
    """What opens Label Studio's door."""

    def authorization(self, refused: str | None = None) -> str:
        """Value of the Authorization header.

        refused: the value that was just answered with 401; another is given if there is one.
        """


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port: what decides who gets a token. Printed as `host:port`."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Self:
        """Origin of an http(s) URL. Raises ValueError if it has none."""
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
        """The host as URLs have it, IPv6 in brackets."""
        return f"[{self.host}]" if ":" in self.host else self.host


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself, by its name or as an IP address."""
    host = host.rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


def same_address(one: str, other: str) -> bool:
    """Whether two http(s) URLs are one address, however they are written: a slash at the end, a
    default port and the name that loopback is called by do not matter.
    """
    return _address_key(one) == _address_key(other)


def _address_key(url: str) -> tuple[object, ...]:
    url = url.strip().rstrip("/")
    try:
        origin = Origin.of(url)
    except ValueError:
        return (url,)
    host = "localhost" if origin.host in LOOPBACK_NAMES else origin.host
    return origin.scheme, host, origin.port, urlsplit(url).path


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet. Unreadable ones do not."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in network for network in PRIVATE_IPV4)
    hidden = ip.ipv4_mapped or ip.sixtofour
    if ip in NAT64:
        hidden = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if hidden is not None:
        return is_public(str(hidden))
    return ip in PUBLIC_IPV6 and not any(ip in network for network in PRIVATE_IPV6)


def is_odd_number(host: str) -> bool:
    """Whether a host is an IPv4 address in a form other than four decimal numbers."""
    if not NUMERIC_HOST.search(host):
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False
