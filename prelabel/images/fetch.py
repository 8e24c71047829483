"""Addresses that users wrote to bytes, and who may be contacted on the way.

Whether a host may be contacted is asked where the connection is made, of the addresses that were
looked up for this very connection. So neither an odd spelling, nor a name that changes its address
between two look-ups, nor a redirect gets past it. And one watchdog per picture shuts its sockets
when the time is up, wherever the server makes us wait: in the handshake, the headers or the body.
(A name server is waited for as long as the system's resolver does.)

A proxy looks names up itself. So what is checked of a name that it is asked for is what the name
means here, and a name that means nothing here is refused unless `proxy_resolves_names` is set.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from typing import Final
from urllib.parse import urljoin

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from prelabel import __version__
from prelabel.errors import ImageAddressError, ImageFetchError, ProxyError
from prelabel.images.server import Server
from prelabel.net.allowed_hosts import AllowedHosts
from prelabel.net.origin import Credentials, Origin
from prelabel.net.proxies import DIRECT, Proxies, Proxy, open_tunnel
from prelabel.net.public_addresses import is_public
from prelabel.net.tls import tls_context, tls_fault
from prelabel.net.transport import (
    Connect,
    ConnectorAdapter,
    Resolve,
    Watchdog,
    connect_socket,
    resolve_host,
    unreachable_reason,
    watchdog_for,
)

MAX_REDIRECTS: Final = 5
MAX_URL_CHARS: Final = 64 * 1024  # servers take fewer
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
READ_BYTES: Final = 64 * 1024
REQUEST_HEADERS: Final = {
    "User-Agent": f"prelabel/{__version__}",
    "Accept": "*/*",
    # A compressed answer could grow past the byte limit while it is unpacked.
    "Accept-Encoding": "identity",
    "Connection": "close",
}

# Without user name, backslash, escapes and empty names in the host, which parsers read differently.
PLAIN_URL: Final = re.compile(
    r"https?://(?![^/?#]*\.\.)[^/?#\\@%\s]+([/?#][^\x00-\x1f\x7f]*)?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """max_bytes: of one picture. Seconds: to connect, and for all hops and the whole body."""

    max_bytes: int
    connect_timeout_s: float
    total_timeout_s: float


class ImageFetcher:
    """Fetches pictures. Can be called from any thread; keeps nothing from call to call.

    allowed_hosts: whose addresses may be private, in the forms of `allowed_hosts.to_hosts`.
    trusted_url: Label Studio's; its origin may be private, too, and it alone gets credentials.
    tls: whose certificates are believed; without it, certifi's list and the system's.
    proxies: which are asked for what. proxy_resolves_names: also for names not known here.
    resolve, connect: how a name becomes addresses, and an address a connection.
    """

    def __init__(
        self,
        limits: FetchLimits,
        *,
        allowed_hosts: Collection[str] = (),
        trusted_url: str | None = None,
        tls: ssl.SSLContext | None = None,
        proxies: Proxies = DIRECT,
        proxy_resolves_names: bool = False,
        resolve: Resolve = resolve_host,
        connect: Connect = connect_socket,
    ) -> None:
        self._limits = limits
        self._allowed_hosts = AllowedHosts.of(allowed_hosts)
        self._trusted = None if trusted_url is None else Origin.of(trusted_url)
        self._tls = tls or tls_context()
        self._proxies = proxies
        self._proxy_resolves_names = proxy_resolves_names
        self._resolve = resolve
        self._connect = connect

    def fetch(self, url: str, credentials: Credentials | None = None, hint: str = "") -> bytes:
        """The bytes behind an http(s) URL; redirects are followed.

        credentials: sent with the first request if that goes to Label Studio, and never further.
        hint: a sentence to add where the picture does not arrive.

        Raises ImageAddressError for what must not be contacted, and ImageFetchError for what did
        not arrive whole, in time and within the size limit.
        """
        try:
            return self._follow(url, credentials)
        except ImageFetchError as error:
            if hint:
                raise ImageFetchError(f"{error} {hint}") from None
            raise

    def _follow(self, url: str, credentials: Credentials | None) -> bytes:
        """The bytes at the end of the redirects."""
        with watchdog_for(self._limits.total_timeout_s) as watchdog:
            for _ in range(MAX_REDIRECTS + 1):
                answer = self._hop(_prepare(url), credentials, watchdog)
                if isinstance(answer, bytes):
                    return answer
                url, credentials = answer, None
        raise ImageFetchError(
            f"The picture's address redirects more than {MAX_REDIRECTS} times; "
            "give the address where the picture really is."
        )

    def _hop(
        self,
        request: requests.PreparedRequest,
        credentials: Credentials | None,
        watchdog: Watchdog,
    ) -> bytes | str:
        """One request: the picture's bytes, or the URL to go on with."""
        server = self._server(Origin.of(str(request.url)))
        if not server.is_label_studio:
            credentials = None
        scheme = server.origin.scheme
        forward = server.proxy if scheme == "http" else None
        adapter = ConnectorAdapter(partial(self._dial, scheme, watchdog), self._tls, forward)
        with (
            _sentences(server, watchdog),
            closing(adapter),
            closing(_send(adapter, request, credentials)) as response,
        ):
            status = response.status_code
            if status in REDIRECTS:
                return _redirect_target(server, response)
            if not 200 <= status < 300:
                raise ImageFetchError(server.refusal(status, has_token=credentials is not None))
            return self._read(server, response, watchdog)

    def _read(self, server: Server, response: requests.Response, watchdog: Watchdog) -> bytes:
        """The body, as it comes; given up as soon as it is too large or too late."""
        too_large = ImageFetchError(
            f"The picture from {server} is larger than {self._limits.max_bytes} bytes; "
            "make it smaller or raise images.max_bytes."
        )
        declared = response.headers.get("Content-Length", "")
        if declared.isdecimal() and int(declared) > self._limits.max_bytes:
            raise too_large
        body = bytearray()
        while chunk := response.raw.read1(READ_BYTES, decode_content=False):
            body += chunk
            if len(body) > self._limits.max_bytes:
                raise too_large
        # The watchdog's shutdown looks like the end of a body of unknown length.
        if watchdog.is_over:
            raise server.too_slow(watchdog)
        return bytes(body)

    def _dial(self, scheme: str, watchdog: Watchdog, host: str, port: int) -> socket.socket:
        """The connect step: looks the host up, checks every address, connects to what was checked.

        Host and port are the connection's own, whatever the URL looked like. Where a proxy is
        asked, it makes the connection, and looks the host up once more.
        """
        server = self._server(Origin(scheme, host.lower(), port))
        server.check_spelling()
        if server.proxy is not None:
            self._check_behind_proxy(server)
            return self._connect_through(server, server.proxy, watchdog)
        try:
            addresses = self._resolve(host, port)
        except (OSError, UnicodeError):
            raise server.unreachable("its name is not known here") from None
        self._check(server, addresses)
        try:
            return self._connect_to_any(addresses, port, watchdog)
        except OSError as error:
            if watchdog.is_over:
                raise server.too_slow(watchdog) from None
            raise server.unreachable(self._reason(error)) from None

    def _check(self, server: Server, addresses: Collection[str]) -> None:
        """Raise ImageAddressError where one of a server's addresses must not be contacted."""
        if not server.may_be_private and not all(
            is_public(address) or self._allowed_hosts.has_address(address) for address in addresses
        ):
            raise server.is_private()

    def _check_behind_proxy(self, server: Server) -> None:
        """The same as far as it can be told here: an IP address always, a name if it is known."""
        if server.may_be_private:
            return
        try:
            addresses = self._resolve(server.origin.host, server.origin.port)
        except (OSError, UnicodeError):
            addresses = ()
        self._check(server, addresses)
        if not addresses and not self._proxy_resolves_names:
            raise server.is_known_to_the_proxy_alone()

    def _connect_through(self, server: Server, proxy: Proxy, watchdog: Watchdog) -> socket.socket:
        """A connection that the proxy continues; for http it reads the request to know where to."""
        try:
            addresses = self._resolve(proxy.host, proxy.port)
            connection = self._connect_to_any(addresses, proxy.port, watchdog)
        except (OSError, UnicodeError) as error:
            if watchdog.is_over:
                raise server.too_slow(watchdog) from None
            raise proxy.unreachable(self._reason(error)) from None
        if server.origin.scheme == "https":
            open_tunnel(connection, proxy, server.origin)
        return connection

    def _connect_to_any(
        self, addresses: Collection[str], port: int, watchdog: Watchdog
    ) -> socket.socket:
        """A connection to the first address that takes one. Raises what the last one raised."""
        give_up_at = time.monotonic() + self._limits.connect_timeout_s
        refused: OSError = socket.gaierror(socket.EAI_NONAME, "no address")
        for address in addresses:
            left_s = min(give_up_at - time.monotonic(), watchdog.remaining_s)
            if left_s <= 0:
                break
            try:
                return watchdog.watch(self._connect(address, port, left_s))
            except OSError as error:
                refused = error
        raise refused

    def _reason(self, error: Exception) -> str:
        """Why there is no connection, in a few words."""
        if isinstance(error, TimeoutError):
            return f"no connection within {self._limits.connect_timeout_s:g} s"
        return unreachable_reason(error)

    def _server(self, origin: Origin) -> Server:
        is_label_studio = origin == self._trusted
        may_be_private = is_label_studio or self._allowed_hosts.has(origin)
        return Server(origin, is_label_studio, may_be_private, self._proxies.for_origin(origin))


def _prepare(url: str) -> requests.PreparedRequest:
    try:
        if len(url) <= MAX_URL_CHARS and PLAIN_URL.fullmatch(url):
            Origin.of(url)  # before it is evened out, which drops a port of 0
            request = requests.Request("GET", url, headers=REQUEST_HEADERS).prepare()
            Origin.of(str(request.url))
            return request
    except (requests.RequestException, ValueError):
        pass
    raise ImageAddressError(
        "The picture's address is no plain http or https address (https://host/path); "
        "correct it in the task."
    )


def _send(
    adapter: HTTPAdapter, request: requests.PreparedRequest, credentials: Credentials | None
) -> requests.Response:
    """The response's headers, its body unread. A refused token is replaced once."""
    if credentials is None:
        return adapter.send(request, stream=True)
    request.headers["Authorization"] = sent = credentials.authorization()
    response = adapter.send(request, stream=True)
    if response.status_code != 401:
        return response
    another = credentials.authorization(refused=sent)
    if another == sent:
        return response
    response.close()
    request.headers["Authorization"] = another
    return adapter.send(request, stream=True)


def _redirect_target(server: Server, response: requests.Response) -> str:
    location = response.headers.get("Location")
    if not location:
        raise ImageFetchError(f"{server} redirects to nowhere; check the picture's address.")
    # Header bytes come as Latin-1; what servers mean is UTF-8.
    return urljoin(response.url, location.encode("latin-1").decode("utf-8"))


@contextmanager
def _sentences(server: Server, watchdog: Watchdog) -> Iterator[None]:
    """Turns what the network and its libraries raise into a sentence.

    Their own words are dropped (`from None`): they repeat the URL, whose query may be a signature.
    """
    try:
        yield
    except ProxyError as error:
        if watchdog.is_over:
            raise server.too_slow(watchdog) from None
        raise ImageFetchError(str(error)) from None
    except (requests.RequestException, HTTPError, HTTPException, OSError, ValueError) as error:
        if watchdog.is_over:
            raise server.too_slow(watchdog) from None
        if fault := tls_fault(error):
            raise ImageFetchError(f"{server} {fault}.") from None
        raise ImageFetchError(
            f"The connection to {server} broke before the picture was there; try again."
        ) from None
