"""The hosts that may serve pictures although their address is private: ALLOWED_IMAGE_HOSTS."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit

from pydantic import ValidationInfo

from prelabel.net.origin import Origin
from prelabel.net.pasted_text import QUOTES, named

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?"
HOST_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
CIDR: Final = re.compile(r"[0-9a-f.:]+/\d{1,3}", re.IGNORECASE)
# Top-level domains of inside networks. `*.` before another would allow what anyone can register.
INSIDE_DOMAINS: Final = frozenset(
    ("corp", "home", "internal", "intranet", "lan", "local", "private", "svc", "test")
)
# An allowed network never opens these: this machine, and where clouds hand out credentials.
# fmt: off
NEVER: Final = tuple(ipaddress.ip_network(network) for network in (
    "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32",
    "192.0.0.192/32", "::/127", "::ffff:0:0/96", "64:ff9b::/96", "2002::/16", "fe80::/10",
    "fd00:ec2::/32", "fd20:ce::/32",
))
# fmt: on


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """The hosts and networks of ALLOWED_IMAGE_HOSTS, ready to be compared.

    names: `host` or `host:port`; domains: the same of `*.domain`, without the asterisk.
    """

    names: frozenset[str] = frozenset()
    domains: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, entries: Collection[str]) -> Self:
        """Read the canonical entries that `to_hosts` gives."""
        networks = [entry for entry in entries if CIDR.fullmatch(entry)]
        domains = [entry[1:] for entry in entries if entry.startswith("*.")]
        names = (
            {entry.lower() for entry in entries} - {*networks} - {f"*{each}" for each in domains}
        )
        return cls(frozenset(names), tuple(domains), tuple(map(ipaddress.ip_network, networks)))

    def has(self, origin: Origin) -> bool:
        """Return whether an origin is allowed by its name, whatever its address is."""
        host = _even(origin.host)
        spellings = {host, f"[{host}]" if ":" in host else host}
        spellings |= {f"{each}:{origin.port}" for each in spellings}
        return not self.names.isdisjoint(spellings) or any(
            spelling.endswith(domain) for domain in self.domains for spelling in spellings
        )

    def has_address(self, address: str) -> bool:
        """Return whether an IP address lies in an allowed network."""
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(ip in network for network in self.networks) and not any(
            ip in network for network in NEVER
        )


def to_hosts(value: object, field: ValidationInfo) -> object:
    """The canonical entries `host`, `host:port`, `*.domain` and `10.0.0.0/8` of a text or a list,
    however they are separated and quoted. What is neither text nor list stays.

    Raises ValueError for an entry that is none of these.
    """
    entries = _entries(value) if isinstance(value, str) else value
    if not isinstance(entries, list | tuple) or not all(isinstance(each, str) for each in entries):
        return value
    pieces = [piece for entry in entries for piece in re.split(rf"[\s,;{QUOTES}]+", entry) if piece]
    return tuple(dict.fromkeys(_entry(named(field), piece) for piece in pieces))


def _entries(text: str) -> list[object]:
    """The text itself, or the texts of a list in JSON."""
    try:
        found = json.loads(text)
    except ValueError:
        return [text]
    return found if isinstance(found, list) else [text]


def _entry(name: str, piece: str) -> str:
    scheme, separator, rest = piece.rpartition("://")
    is_address = not separator or scheme.lower() in ("http", "https")
    try:
        if CIDR.fullmatch(piece):
            return str(ipaddress.ip_network(piece, strict=False))
        if "@" in piece or not is_address:
            raise ValueError("no host")
        return _canonical(re.split(r"[/?#\\]", rest)[0].lower())
    except ValueError:
        # A user name and password before the @ are not repeated.
        shown = "an entry with an @" if "@" in piece else repr(piece[:60])
        raise ValueError(
            f"{name} has {shown}, which is no host. Write host, host:port, *.example.com or "
            "10.0.0.0/8, with commas between them."
        ) from None


def _canonical(entry: str) -> str:
    """A host, with its port if it has one. Raises ValueError."""
    is_domain = entry.startswith(("*.", "."))
    host = entry.removeprefix("*.") if entry.startswith("*") else entry.removeprefix(".")
    if host.count(":") > 1 and not host.startswith("["):
        host = f"[{host}]"
    parts = urlsplit(f"//{host}")
    port = "" if parts.port is None else f":{parts.port}"
    if host.startswith("["):
        return f"[{ipaddress.IPv6Address(parts.hostname or '')}]{port}"
    label = (parts.hostname or "").rstrip(".")
    label = label if label.isascii() else label.encode("idna").decode()
    if not HOST_NAME.fullmatch(label):
        raise ValueError("no host")
    if is_domain and "." not in label and label not in INSIDE_DOMAINS:
        raise ValueError("too many hosts")
    return f"{'*.' if is_domain else ''}{label}{port}"


def _even(host: str) -> str:
    """A host in the one form in which hosts are compared."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower().rstrip(".")
