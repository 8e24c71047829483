"""Download of pictures from addresses that users wrote into tasks.

Each redirect is a new request with a new connection, which the connector checks again. One watchdog
for each picture shuts its sockets when the time is up, wherever the server stalls: in the TLS
handshake, the headers or the body. Only the wait for a name server is bounded by the system's
resolver instead.
"""

from __future__ import annotations

import re
import ssl
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
from prelabel.errors import (
    ImageAddressError,
    ImageFetchError,
    ImageUnavailableError,
    ProxyError,
)
from prelabel.images.connector import CheckedConnector
from prelabel.images.server import Server
from prelabel.net.allowed_hosts import AllowedHosts
from prelabel.net.origin import Credentials, Origin
from prelabel.net.proxies import DIRECT, Proxies
from prelabel.net.tls import tls_context, tls_fault
from prelabel.net.transport import (
    Connect,
    ConnectorAdapter,
    Resolve,
    Watchdog,
    connect_socket,
    resolve_host,
    watchdog_for,
)

MAX_REDIRECTS: Final = 5
MAX_URL_CHARS: Final = 64 * 1024  # more than any server accepts; bounds the work of parsing
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
READ_BYTES: Final = 64 * 1024  # of the body at a time; the size limit is checked after each read
REQUEST_HEADERS: Final = {
    "User-Agent": f"prelabel/{__version__}",
    "Accept": "*/*",
    # A compressed answer could grow past the byte limit while it is unpacked.
    "Accept-Encoding": "identity",
    "Connection": "close",
}

# A host without user name, backslash, percent escapes and empty labels: URL parsers disagree about
# these, so that the checked host could differ from the contacted one.
PLAIN_URL: Final = re.compile(
    r"https?://(?![^/?#]*\.\.)[^/?#\\@%\s]+([/?#][^\x00-\x1f\x7f]*)?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Limits of one download.

    Attributes:
        max_bytes: Largest body in bytes.
        connect_timeout_s: Seconds to connect, for each hop.
        total_timeout_s: Seconds for all redirects and the whole body together.
    """

    max_bytes: int
    connect_timeout_s: float
    total_timeout_s: float


class ImageFetcher:
    """Downloads pictures. Can be called from any thread; keeps no state between calls.

    Args:
        limits: Bytes and seconds of one picture.
        allowed_hosts: Hosts whose addresses may be private, in the forms of
            `allowed_hosts.to_hosts`.
        trusted_url: Label Studio's URL. Its origin may have a private address, and no other origin
            gets credentials.
        tls: The trusted certificates; by default certifi's list and the system's.
        proxies: The proxies for http and https.
        proxy_resolves_names: Send names that do not resolve here to a proxy.
        resolve: Looks up the addresses of a host.
        connect: Connects to an address.
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
        self._tls = tls or tls_context()
        self._connector = CheckedConnector(
            connect_timeout_s=limits.connect_timeout_s,
            allowed_hosts=AllowedHosts.of(allowed_hosts),
            trusted=None if trusted_url is None else Origin.of(trusted_url),
            proxies=proxies,
            proxy_resolves_names=proxy_resolves_names,
            resolve=resolve,
            connect=connect,
        )

    def fetch(self, url: str, credentials: Credentials | None = None, hint: str = "") -> bytes:
        """Return the encoded bytes at an http(s) URL, following redirects.

        Args:
            url: The picture's address.
            credentials: Sent with the first request if it goes to Label Studio, never further.
            hint: A sentence that is appended to the error message if the download fails.

        Raises:
            ImageAddressError: The address, or that of a redirect, must not be contacted.
            ImageFetchError: The picture did not arrive whole, in time and within the size limit;
                ImageUnavailableError if a later try may succeed.
        """
        try:
            return self._follow_redirects(url, credentials)
        except ImageFetchError as error:
            if hint:
                raise type(error)(f"{error} {hint}") from None
            raise

    def _follow_redirects(self, url: str, credentials: Credentials | None) -> bytes:
        with watchdog_for(self._limits.total_timeout_s) as watchdog:
            for _ in range(MAX_REDIRECTS + 1):
                answer = self._request(_prepare(url), credentials, watchdog)
                if isinstance(answer, bytes):
                    return answer
                url, credentials = answer, None
        raise ImageFetchError(
            f"The picture's address redirects more than {MAX_REDIRECTS} times; "
            "use the address at which the redirects end."
        )

    def _request(
        self,
        request: requests.PreparedRequest,
        credentials: Credentials | None,
        watchdog: Watchdog,
    ) -> bytes | str:
        """Send one request. Returns the picture's bytes, or the URL of a redirect."""
        server = self._connector.server(Origin.of(str(request.url)))
        if not server.is_label_studio:
            credentials = None
        scheme = server.origin.scheme
        forward = server.proxy if scheme == "http" else None
        adapter = ConnectorAdapter(
            partial(self._connector.open, scheme, watchdog), self._tls, forward
        )
        with (
            _translated_errors(server, watchdog),
            closing(adapter),
            closing(_send(adapter, request, credentials)) as response,
        ):
            status = response.status_code
            if status in REDIRECTS:
                return _redirect_target(server, response)
            if not 200 <= status < 300:
                raise server.status_error(status, has_token=credentials is not None)
            return self._read_body(server, response, watchdog)

    def _read_body(self, server: Server, response: requests.Response, watchdog: Watchdog) -> bytes:
        """Read the body in pieces, up to the limits of size and time."""
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
            raise server.timeout_error(watchdog)
        return bytes(body)


def _prepare(url: str) -> requests.PreparedRequest:
    try:
        if len(url) <= MAX_URL_CHARS and PLAIN_URL.fullmatch(url):
            Origin.of(url)  # before `requests` normalises the URL, which drops a port of 0
            request = requests.Request("GET", url, headers=REQUEST_HEADERS).prepare()
            Origin.of(str(request.url))
            return request
    except (requests.RequestException, ValueError):
        pass
    raise ImageAddressError(
        "The picture's address is not a plain http or https address (https://host/path); "
        "correct it in the task."
    )


def _send(
    adapter: HTTPAdapter, request: requests.PreparedRequest, credentials: Credentials | None
) -> requests.Response:
    """Return the response with its body unread. After a 401 the token is renewed once."""
    if credentials is None:
        return adapter.send(request, stream=True)
    request.headers["Authorization"] = sent = credentials.authorization()
    response = adapter.send(request, stream=True)
    if response.status_code != 401:
        return response
    renewed = credentials.authorization(refused=sent)
    if renewed == sent:
        return response
    response.close()
    request.headers["Authorization"] = renewed
    return adapter.send(request, stream=True)


def _redirect_target(server: Server, response: requests.Response) -> str:
    location = response.headers.get("Location")
    if not location:
        raise ImageFetchError(
            f"{server} sent a redirect without a target; check the picture's address."
        )
    # http.client decodes header bytes as Latin-1, but servers send UTF-8.
    return urljoin(response.url, location.encode("latin-1").decode("utf-8"))


@contextmanager
def _translated_errors(server: Server, watchdog: Watchdog) -> Iterator[None]:
    """Turn exceptions of the network and its libraries into an ImageFetchError.

    The original text is dropped (`from None`): it repeats the URL, whose query may be a signature.
    """
    try:
        yield
    except ProxyError as error:
        if watchdog.is_over:
            raise server.timeout_error(watchdog) from None
        raise ImageFetchError(str(error)) from None
    except (requests.RequestException, HTTPError, HTTPException, OSError, ValueError) as error:
        if watchdog.is_over:
            raise server.timeout_error(watchdog) from None
        if fault := tls_fault(error):
            raise ImageFetchError(f"{server} {fault}.") from None
        raise ImageUnavailableError(
            f"The connection to {server} broke before the picture had arrived; try again."
        ) from None
