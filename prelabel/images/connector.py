"""The connect step of a picture's download: which addresses may be contacted.

The check is part of the connect step, on the addresses that were resolved for this very connection.
So an unusual spelling of a host, a name whose address changes between two look-ups, and a redirect
are all covered.

A proxy resolves names itself. So a name is checked by the addresses that it has here, and a name
that does not resolve here is refused unless `images.proxy_resolves_names` is set.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Collection
from dataclasses import dataclass

from prelabel.images.server import Server
from prelabel.net.allowed_hosts import AllowedHosts
from prelabel.net.origin import Origin
from prelabel.net.proxies import Proxies, Proxy, open_tunnel
from prelabel.net.public_addresses import is_public
from prelabel.net.transport import Connect, Resolve, Watchdog, unreachable_reason


@dataclass(frozen=True, slots=True)
class CheckedConnector:
    """Opens checked connections to the servers of pictures. Can be used from any thread.

    Attributes:
        connect_timeout_s: Seconds for all connection attempts of one call together.
        allowed_hosts: Hosts that may have private addresses.
        trusted: Label Studio's origin, which may have a private address as well.
        proxies: The proxy for each scheme, and the hosts that are reached without.
        proxy_resolves_names: Send names that do not resolve here to the proxy.
        resolve: Looks up the addresses of a host.
        connect: Connects to an address.
    """

    connect_timeout_s: float
    allowed_hosts: AllowedHosts
    trusted: Origin | None
    proxies: Proxies
    proxy_resolves_names: bool
    resolve: Resolve
    connect: Connect

    def server(self, origin: Origin) -> Server:
        """Return the server of an origin with the rules that apply to it."""
        is_label_studio = origin == self.trusted
        may_be_private = is_label_studio or self.allowed_hosts.has(origin)
        return Server(origin, is_label_studio, may_be_private, self.proxies.for_origin(origin))

    def open(self, scheme: str, watchdog: Watchdog, host: str, port: int) -> socket.socket:
        """Resolve a host, check every address, and connect to an address that was checked.

        Host and port are those of the connection, whatever the URL looked like. With a proxy the
        connection goes to the proxy, which resolves the host once more.

        Raises:
            ImageAddressError: The host must not be contacted.
            ImageUnavailableError: No connection could be made in time.
            ProxyError: The proxy cannot be reached, or refuses the tunnel.
        """
        server = self.server(Origin(scheme, host.lower(), port))
        server.check_spelling()
        if server.proxy is not None:
            self._check_behind_proxy(server)
            return self._connect_through(server, server.proxy, watchdog)
        try:
            addresses = self.resolve(host, port)
        except (OSError, UnicodeError):
            raise server.unreachable_error("its name is not known here") from None
        self._check_addresses(server, addresses)
        try:
            return self._connect_to_any(addresses, port, watchdog)
        except OSError as error:
            # The watchdog shuts sockets, which looks like a broken connection.
            if watchdog.is_over:
                raise server.timeout_error(watchdog) from None
            raise server.unreachable_error(self._reason(error)) from None

    def _check_addresses(self, server: Server, addresses: Collection[str]) -> None:
        """Raise ImageAddressError if one of a server's addresses must not be contacted."""
        if not server.may_be_private and not all(
            is_public(address) or self.allowed_hosts.has_address(address) for address in addresses
        ):
            raise server.private_address_error()

    def _check_behind_proxy(self, server: Server) -> None:
        """Check the addresses that a host has here; the proxy may resolve it to others."""
        if server.may_be_private:
            return
        try:
            addresses = self.resolve(server.origin.host, server.origin.port)
        except (OSError, UnicodeError):
            addresses = ()
        self._check_addresses(server, addresses)
        if not addresses and not self.proxy_resolves_names:
            raise server.unresolved_name_error()

    def _connect_through(self, server: Server, proxy: Proxy, watchdog: Watchdog) -> socket.socket:
        """Connect to a proxy; open a tunnel for https. For http it reads the request itself."""
        try:
            addresses = self.resolve(proxy.host, proxy.port)
            connection = self._connect_to_any(addresses, proxy.port, watchdog)
        except (OSError, UnicodeError) as error:
            if watchdog.is_over:
                raise server.timeout_error(watchdog) from None
            raise proxy.unreachable(self._reason(error)) from None
        if server.origin.scheme == "https":
            open_tunnel(connection, proxy, server.origin)
        return connection

    def _connect_to_any(
        self, addresses: Collection[str], port: int, watchdog: Watchdog
    ) -> socket.socket:
        """Connect to the first address that accepts. Raises the error of the last attempt."""
        # One budget for all addresses: a host with many dead ones must not take many times as long.
        give_up_at = time.monotonic() + self.connect_timeout_s
        last_error: OSError = socket.gaierror(socket.EAI_NONAME, "no address")
        for address in addresses:
            left_s = min(give_up_at - time.monotonic(), watchdog.remaining_s)
            if left_s <= 0:
                break
            try:
                return watchdog.watch(self.connect(address, port, left_s))
            except OSError as error:
                last_error = error
        raise last_error

    def _reason(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"no connection within {self.connect_timeout_s:g} s"
        return unreachable_reason(error)
