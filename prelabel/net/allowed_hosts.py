"""ALLOWED_IMAGE_HOSTS: hosts and networks that may serve images from private addresses."""

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
# Top-level domains of private networks. `*.` before a public one would allow names that anyone can
# register.
INSIDE_DOMAINS: Final = frozenset(
    ("corp", "home", "internal", "intranet", "lan", "local", "private", "svc", "test")
)
# Loopback, link-local and cloud metadata addresses (which hand out credentials), and IPv6 blocks
# that embed IPv4 addresses. They stay refused even inside an allowed network.
# fmt: off
NEVER_ALLOWED: Final = tuple(ipaddress.ip_network(network) for network in (
    "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32",
    "192.0.0.192/32", "::/127", "::ffff:0:0/96", "64:ff9b::/96", "2002::/16", "fe80::/10",
    "fd00:ec2::/32", "fd20:ce::/32",
))
# fmt: on


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """Allowlist of ALLOWED_IMAGE_HOSTS, parsed for lookups.

    Attributes:
        names: `host` or `host:port`.
        domains: `.domain` or `.domain:port`, from entries of the form `*.domain`.
        networks: Networks whose addresses are allowed, except those of NEVER_ALLOWED.
    """

    names: frozenset[str] = frozenset()
    domains: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, entries: Collection[str]) -> Self:
        """Build an allowlist from the canonical entries that `to_hosts` returns."""
        networks = [entry for entry in entries if CIDR.fullmatch(entry)]
        domains = [entry[1:] for entry in entries if entry.startswith("*.")]
        names = (
            {entry.lower() for entry in entries} - {*networks} - {f"*{each}" for each in domains}
        )
        return cls(frozenset(names), tuple(domains), tuple(map(ipaddress.ip_network, networks)))

    def has(self, origin: Origin) -> bool:
        """Return True if an origin is allowed by its name, regardless of its IP address."""
        host = _normalise(origin.host)
        spellings = {host, f"[{host}]" if ":" in host else host}
        spellings |= {f"{each}:{origin.port}" for each in spellings}
        return not self.names.isdisjoint(spellings) or any(
            spelling.endswith(domain) for domain in self.domains for spelling in spellings
        )

    def has_address(self, address: str) -> bool:
        """Return True if an IP address lies in an allowed network."""
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(ip in network for network in self.networks) and not any(
            ip in network for network in NEVER_ALLOWED
        )


def to_hosts(value: object, field: ValidationInfo) -> object:
    """Validate ALLOWED_IMAGE_HOSTS; used as a pydantic validator that runs before type checks.

    Args:
        value: A text or a list of texts, with any separators and quotes. Values of other types are
            returned unchanged, for pydantic to refuse.
        field: The field that is validated; its name stands in error messages.

    Returns:
        The canonical entries: `host`, `host:port`, `*.domain` or `10.0.0.0/8`.

    Raises:
        ValueError: An entry is neither a host nor a network.
    """
    entries = _entries(value) if isinstance(value, str) else value
    if not isinstance(entries, list | tuple) or not all(isinstance(each, str) for each in entries):
        return value
    pieces = [piece for entry in entries for piece in re.split(rf"[\s,;{QUOTES}]+", entry) if piece]
    return tuple(dict.fromkeys(_entry(named(field), piece) for piece in pieces))


def _entries(text: str) -> list[object]:
    """Return the items of a JSON list; a text that is not a JSON list is one item."""
    try:
        parsed = json.loads(text)
    except ValueError:
        return [text]
    return parsed if isinstance(parsed, list) else [text]


def _entry(name: str, piece: str) -> str:
    scheme, separator, rest = piece.rpartition("://")
    has_http_scheme = not separator or scheme.lower() in ("http", "https")
    try:
        if CIDR.fullmatch(piece):
            return str(ipaddress.ip_network(piece, strict=False))
        if "@" in piece or not has_http_scheme:
            raise ValueError("not a host")
        return _canonical(re.split(r"[/?#\\]", rest)[0].lower())
    except ValueError:
        # The text before an @ may be a password, which must not reach a log.
        shown = "an entry with an @" if "@" in piece else repr(piece[:60])
        raise ValueError(
            f"{name} has {shown}, which is not a host. Write host, host:port, *.example.com or "
            "10.0.0.0/8, separated by commas."
        ) from None


def _canonical(entry: str) -> str:
    """Return `host`, `host:port` or `*.domain` in canonical form. Raises ValueError."""
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
        raise ValueError("not a host")
    if is_domain and "." not in label and label not in INSIDE_DOMAINS:
        raise ValueError("the wildcard covers a public top-level domain")
    return f"{'*.' if is_domain else ''}{label}{port}"


def _normalise(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower().rstrip(".")
