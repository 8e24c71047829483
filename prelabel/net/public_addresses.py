"""Tables of public IP addresses, and the hosts and ports that are refused.

Used by the guard against server-side request forgery (SSRF): image URLs come from users.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

# Everything outside the public internet: IANA's special-purpose registries (RFC 6890 and
# successors), multicast, and the one public address that serves cloud metadata (Azure's
# 168.63.129.16). The project keeps its own table because the one in `ipaddress` differs between
# patch releases of Python.
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
# IANA assigns global unicast addresses from this block only; everything else is not public.
PUBLIC_IPV6: Final = ipaddress.IPv6Network("2000::/3")
NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")

# The "bad ports" of the Fetch standard. Servers of other protocols (mail, IRC) may act on the parts
# of an HTTP request that they understand. Browsers do not load images from these ports either.
# fmt: off
BAD_PORTS: Final = frozenset((
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101,
    102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427,
    465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990,
    993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667,
    6668, 6669, 6679, 6697, 10080,
))
# fmt: on

# Browsers and resolvers parse a host whose last part is a number as an IPv4 address of one to four
# decimal, octal or hexadecimal parts.
NUMERIC_HOST: Final = re.compile(r"(^|\.)(\d+|0x[0-9a-f]*)\.?$", re.IGNORECASE)


def is_public(address: str) -> bool:
    """Return True if an IP address belongs to the public internet.

    An IPv6 address that embeds an IPv4 address (mapped, 6to4, NAT64) counts as the embedded one,
    because packets end there. A text that is not an IP address is not public.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in network for network in PRIVATE_IPV4)
    embedded = ip.ipv4_mapped or ip.sixtofour
    if ip in NAT64:
        embedded = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if embedded is not None:
        return is_public(str(embedded))
    return ip in PUBLIC_IPV6 and not any(ip in network for network in PRIVATE_IPV6)


def is_noncanonical_ipv4(host: str) -> bool:
    """Return True for an IPv4 address in any form but four decimal numbers, such as 0x7f000001."""
    if not NUMERIC_HOST.search(host):
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False
