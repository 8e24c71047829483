"""Addresses that users wrote to bytes, and who may be contacted on the way.

Whether a host may be contacted is asked where the connection is made, of the addresses that were
looked up for this very connection. So neither an odd spelling, nor a name that changes its address
between two look-ups, nor a redirect gets past it. And one watchdog per picture shuts its sockets
when the time is up, wherever the server makes us wait: in the handshake, the headers or the body.
(A name server is waited for as long as the system's resolver does.)
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
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.exceptions import HTTPError

from prelabel import __version__
from prelabel.addresses import BAD_PORTS, Credentials, Origin, is_odd_number, is_public
from prelabel.dialing import (
    Connect,
    DialingAdapter,
    Resolve,
    Watchdog,
    connect_socket,
    resolve_host,
    watchdog_for,
)
from prelabel.errors import ImageAddressError, ImageFetchError

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

    allowed_hosts: `host` or `host:port` whose addresses may be private.
    trusted_url: Label Studio's; its origin may be private, too, and it alone gets credentials.
    tls: whose certificates are believed; without it, certifi's list.
    resolve, connect: how a name becomes addresses, and an address a connection.
    """

    def __init__(
        self,
        limits: FetchLimits,
        *,
        allowed_hosts: Collection[str] = (),
        trusted_url: str | None = None,
        tls: ssl.SSLContext | None = None,
        resolve: Resolve = resolve_host,
        connect: Connect = connect_socket,
    ) -> None:
        self._limits = limits
        self._allowed_hosts = frozenset(host.lower() for host in allowed_hosts)
        self._trusted = None if trusted_url is None else Origin.of(trusted_url)
        self._tls = tls or ssl.create_default_context(cafile=DEFAULT_CA_BUNDLE_PATH)
        self._resolve = resolve
        self._connect = connect

    def fetch(self, url: str, credentials: Credentials | None = None) -> bytes:
        """The bytes behind an http(s) URL; redirects are followed.

        credentials: sent with the first request if that goes to Label Studio, and never further.

        Raises ImageAddressError for what must not be contacted, and ImageFetchError for what did
        not arrive whole, in time and within the size limit.
        """
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
        adapter = DialingAdapter(partial(self._dial, server.origin, watchdog), self._tls)
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

    def _read(self, server: _Server, response: requests.Response, watchdog: Watchdog) -> bytes:
        """The body, as it comes; given up as soon as it is too large or too late."""
        too_large = ImageFetchError(
            f"The picture from {server} is larger than {self._limits.max_bytes} bytes; "
            "make it smaller or raise max_image_bytes."
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

    def _dial(self, origin: Origin, watchdog: Watchdog, host: str, port: int) -> socket.socket:
        """The connect step: looks the host up, checks every address, connects to what was checked.

        Host and port are the connection's own, whatever the URL looked like.
        """
        server = self._server(Origin(origin.scheme, host.lower(), port))
        if not server.may_be_private and is_odd_number(host):
            raise ImageAddressError(
                f"{server} is an IP address in an unusual form; write it as four decimal numbers."
            )
        if not server.may_be_private and port in BAD_PORTS:
            raise ImageAddressError(
                f"{server} has the port of another protocol, from where browsers show no picture "
                "either; serve the picture from another port."
            )
        try:
            addresses = self._resolve(host, port)
        except (OSError, UnicodeError):
            raise server.unreachable("its name is not known here") from None
        if not server.may_be_private and not all(map(is_public, addresses)):
            raise ImageAddressError(
                f"{server} has a private or local address, which is not contacted; if it may "
                f"serve pictures, add {server.origin} to ALLOWED_IMAGE_HOSTS."
            )
        return self._connect_to_any(server, addresses, watchdog)

    def _connect_to_any(
        self, server: _Server, addresses: Collection[str], watchdog: Watchdog
    ) -> socket.socket:
        give_up_at = time.monotonic() + self._limits.connect_timeout_s
        reason = "its name has no address"
        for address in addresses:
            left_s = min(give_up_at - time.monotonic(), watchdog.remaining_s)
            if left_s <= 0:
                break
            try:
                return watchdog.watch(self._connect(address, server.origin.port, left_s))
            except TimeoutError:
                reason = f"no connection within {self._limits.connect_timeout_s:g} s"
            except OSError as error:
                refused = isinstance(error, ConnectionRefusedError)
                reason = "it refuses the connection" if refused else "there is no way to it"
        if watchdog.is_over:
            raise server.too_slow(watchdog)
        raise server.unreachable(reason)

    def _server(self, origin: Origin) -> _Server:
        is_label_studio = origin == self._trusted
        names = {origin.host, origin.netloc_host, str(origin)}
        may_be_private = is_label_studio or not self._allowed_hosts.isdisjoint(names)
        return _Server(origin, is_label_studio, may_be_private)


@dataclass(frozen=True, slots=True)
class _Server:
    """Whom a request goes to, and what to say of it. Never says path, query or server's words."""

    origin: Origin
    is_label_studio: bool
    may_be_private: bool

    def __str__(self) -> str:
        return f"Label Studio ({self.origin})" if self.is_label_studio else str(self.origin)

    def unreachable(self, reason: str) -> ImageFetchError:
        check = "LABEL_STUDIO_HOST" if self.is_label_studio else "the picture's address"
        return ImageFetchError(f"{self} cannot be reached: {reason}; check {check}.")

    def too_slow(self, watchdog: Watchdog) -> ImageFetchError:
        return ImageFetchError(
            f"{self} did not send the picture within {watchdog.total_s:.3g} s; "
            "try again, make the picture smaller or raise fetch_timeout_s."
        )

    def refusal(self, status: int, *, has_token: bool) -> str:
        """What an HTTP status other than 2xx means, and what to do."""
        if status in (401, 403) and self.is_label_studio:
            if has_token:
                return f"{self} refuses the token (HTTP {status}); check LABEL_STUDIO_ACCESS_TOKEN."
            return f"{self} wants a token (HTTP {status}); set LABEL_STUDIO_ACCESS_TOKEN."
        if status in (401, 403):
            return (
                f"{self} does not give the picture to everyone (HTTP {status}); make it public, "
                "or connect its storage to Label Studio."
            )
        if status == 429 or status >= 500:
            return f"{self} cannot give the picture now (HTTP {status}); try again later."
        return f"{self} has no picture there (HTTP {status}); check the picture's address."


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


def _redirect_target(server: _Server, response: requests.Response) -> str:
    location = response.headers.get("Location")
    if not location:
        raise ImageFetchError(f"{server} redirects to nowhere; check the picture's address.")
    # Header bytes come as Latin-1; what servers mean is UTF-8.
    return urljoin(response.url, location.encode("latin-1").decode("utf-8"))


@contextmanager
def _sentences(server: _Server, watchdog: Watchdog) -> Iterator[None]:
    """Turns what the network and its libraries raise into a sentence.

    Their own words are dropped (`from None`): they repeat the URL, whose query may be a signature.
    """
    try:
        yield
    except (requests.RequestException, HTTPError, HTTPException, OSError, ValueError) as error:
        if watchdog.is_over:
            raise server.too_slow(watchdog) from None
        if isinstance(error, requests.exceptions.SSLError):
            raise server.unreachable("no trusted TLS connection can be made") from None
        raise ImageFetchError(
            f"The connection to {server} broke before the picture was there; try again."
        ) from None
