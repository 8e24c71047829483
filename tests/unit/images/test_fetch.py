from __future__ import annotations

import ipaddress
import pickle
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from prelabel import __version__
from prelabel.errors import (
    ImageAddressError,
    ImageFetchError,
    ImageServerError,
    ImageUnavailableError,
)
from prelabel.images.fetch import FetchLimits, ImageFetcher
from prelabel.net.public_addresses import is_public
from tests.support.http_server import Exchange, LocalServer, Network, Received, serve, serve_raw

PUBLIC = "93.184.216.34"
OTHER_PUBLIC = "198.41.0.4"
LIMITS = FetchLimits(max_bytes=1000, connect_timeout_s=5, total_timeout_s=10)
HASTY = FetchLimits(max_bytes=1000, connect_timeout_s=5, total_timeout_s=0.4)
TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Token:
    """Credentials that hand out one header after the other."""

    def __init__(self, *headers: str) -> None:
        self.headers = list(headers)
        self.refused: list[str] = []

    def authorization(self, refused: str | None = None) -> str:
        if refused is not None:
            self.refused.append(refused)
            if len(self.headers) > 1:
                self.headers.pop(0)
        return self.headers[0]


def picture(exchange: Exchange, received: Received) -> None:
    exchange.answer(200, b"picture")


def redirect(status: int, location: str) -> Callable[[Exchange, Received], None]:
    def respond(exchange: Exchange, received: Received) -> None:
        if received.path == "/picture":
            exchange.answer(200, b"picture")
        else:
            exchange.answer(status, b"elsewhere", Location=location)

    return respond


@pytest.fixture
def network() -> Network:
    return Network(names={"pictures.example": [(PUBLIC,)], "other.example": [(OTHER_PUBLIC,)]})


def fetcher(
    network: Network,
    limits: FetchLimits = LIMITS,
    *,
    allowed_hosts: tuple[str, ...] = (),
    trusted_url: str | None = None,
    tls: ssl.SSLContext = TRUSTS_NOBODY,
) -> ImageFetcher:
    return ImageFetcher(
        limits,
        allowed_hosts=allowed_hosts,
        trusted_url=trusted_url,
        tls=tls,
        resolve=network.resolve,
        connect=network.connect,
    )


@pytest.fixture
def site(network: Network) -> Iterator[LocalServer]:
    """http://pictures.example/, a public host that has a picture under every path."""
    with serve(picture) as server:
        network.behind[PUBLIC] = server.port
        yield server


def test_a_public_picture_is_fetched(network: Network, site: LocalServer) -> None:
    url = "http://pictures.example/my cats/ünï.jpg?size=1#top"
    assert fetcher(network).fetch(url) == b"picture"
    assert network.connected == [(PUBLIC, 80)]
    assert site.received[0].path == "/my%20cats/%C3%BCn%C3%AF.jpg?size=1"
    assert site.received[0].headers["Host"] == "pictures.example"
    assert site.received[0].headers["User-Agent"] == f"prelabel/{__version__}"


def test_real_sockets_and_resolver_reach_an_allowed_host() -> None:
    with serve(picture) as server:
        plain = ImageFetcher(LIMITS, allowed_hosts=(f"127.0.0.1:{server.port}",))
        assert plain.fetch(server.url) == b"picture"


def test_empty_body_is_an_empty_answer_and_not_missing(network: Network) -> None:
    with serve(lambda exchange, _: exchange.answer(200)) as server:
        network.behind[PUBLIC] = server.port
        assert fetcher(network).fetch("http://pictures.example/") == b""


# Allowed hosts; hostile_addresses.yaml is a table of refused ones --------------------------------


def test_every_address_that_python_calls_special_is_not_public() -> None:
    special = [
        *ipaddress._IPv4Constants._private_networks,  # type: ignore[attr-defined]
        *ipaddress._IPv6Constants._private_networks,  # type: ignore[attr-defined]
    ]
    assert len(special) > 20
    for network in special:
        for address in (network[0], network[network.num_addresses // 2], network[-1]):
            # Some releases of Python call all of 6to4 special; it is what its IPv4 address is.
            hidden = getattr(address, "sixtofour", None) or address
            assert hidden.is_global or not is_public(str(address)), address


@pytest.mark.parametrize(
    "address",
    [
        *("1.1.1.1", "8.8.8.8", PUBLIC, "9.255.255.255", "11.0.0.0", "100.63.255.255"),
        *("100.128.0.0", "126.255.255.255", "128.0.0.1", "169.253.1.1", "172.15.1.1"),
        *("172.32.0.1", "192.167.1.1", "192.169.1.1", "198.17.1.1", "198.20.1.1", "223.1.1.1"),
        *("2606:4700::1111", "2a00:1450::1", "64:ff9b::808:808", "::ffff:8.8.8.8"),
        "2002:808:808::1",
    ],
)
def test_addresses_beside_the_special_ones_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address", ["", "localhost", "1.2.3", "fe80::1%eth0", "::1%lo", "1.1.1.1 "]
)
def test_what_is_no_plain_address_is_not_public(address: str) -> None:
    assert not is_public(address)


def test_one_private_address_among_public_ones_is_enough_to_refuse(network: Network) -> None:
    network.names["pictures.example"] = [(PUBLIC, "10.0.0.1")]
    with pytest.raises(ImageAddressError, match=r"add pictures.example:80 to ALLOWED_IMAGE_HOSTS"):
        fetcher(network).fetch("http://pictures.example/")
    assert network.connected == []


def test_the_address_that_was_checked_is_the_one_connected_to(
    network: Network, site: LocalServer
) -> None:
    network.names["pictures.example"] = [(PUBLIC,), ("127.0.0.1",)]
    assert fetcher(network).fetch("http://pictures.example/") == b"picture"
    assert network.looked_up == ["pictures.example"]
    assert network.connected == [(PUBLIC, 80)]


def test_a_name_that_moves_inside_between_two_hops_is_refused(network: Network) -> None:
    network.names["pictures.example"] = [(PUBLIC,), ("127.0.0.1",)]
    with serve(redirect(302, "http://pictures.example/picture")) as server:
        network.behind[PUBLIC] = server.port
        with pytest.raises(ImageAddressError):
            fetcher(network).fetch("http://pictures.example/")
    assert network.connected == [(PUBLIC, 80)]


@pytest.mark.parametrize(
    "allowed", ["10.0.0.1", "10.0.0.1:9000", "INTRANET", "intranet:9000", "[fd00::1]", "fd00::1"]
)
def test_allowed_hosts_may_be_private(allowed: str, network: Network) -> None:
    host = allowed.lower().removesuffix(":9000")
    network.names["intranet"] = [("10.0.0.1",)]
    host = "[fd00::1]" if "::" in host else host
    with serve(picture) as server:
        network.behind |= {"10.0.0.1": server.port, "fd00::1": server.port}
        allowing = fetcher(network, allowed_hosts=(allowed,))
        assert allowing.fetch(f"http://{host}:9000/") == b"picture"


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1:9001/",
        "http://10.0.0.2:9000/",
        "http://intranet:9000/",
        "http://167772161:9000/",
    ],
)
def test_allowing_one_port_of_a_host_allows_nothing_else(url: str, network: Network) -> None:
    network.names["intranet"] = [("10.0.0.1",)]
    with pytest.raises(ImageAddressError):
        fetcher(network, allowed_hosts=("10.0.0.1:9000",)).fetch(url)
    assert network.connected == []


@pytest.mark.parametrize(
    "url",
    ["http://studio:8081/", "https://studio:8080/", "http://studio/", "http://10.0.0.1:8080/"],
)
def test_only_the_exact_origin_of_label_studio_may_be_private(url: str, network: Network) -> None:
    network.names["studio"] = [("10.0.0.1",)]
    with serve(picture) as server:
        network.behind["10.0.0.1"] = server.port
        studio = fetcher(network, trusted_url="http://studio:8080/label-studio")
        assert studio.fetch("http://studio:8080/a.jpg") == b"picture"
        with pytest.raises(ImageAddressError):
            studio.fetch(url)
    assert network.connected == [("10.0.0.1", 8080)]


# The token --------------------------------------------------------------------------------------


def sent_tokens(server: LocalServer) -> list[str | None]:
    return [received.headers.get("Authorization") for received in server.received]


def test_token_goes_to_label_studio(network: Network, site: LocalServer) -> None:
    studio = fetcher(network, trusted_url="http://pictures.example/")
    studio.fetch("http://PICTURES.example:80/a.jpg", Token("Token t"))
    assert sent_tokens(site) == ["Token t"]


@pytest.mark.parametrize(
    "url",
    ["http://pictures.example:8080/", "http://other.example/", "http://pictures.example./"],
)
def test_token_goes_to_no_other_origin(url: str, network: Network, site: LocalServer) -> None:
    network.behind[OTHER_PUBLIC] = site.port
    network.names["pictures.example."] = [(PUBLIC,)]
    studio = fetcher(network, trusted_url="http://pictures.example/")
    assert studio.fetch(url, Token("Token t")) == b"picture"
    assert sent_tokens(site) == [None]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location", ["http://other.example/picture", "//other.example/picture", "/picture", "picture"]
)
def test_token_is_not_sent_along_a_redirect(location: str, status: int, network: Network) -> None:
    with serve(redirect(status, location)) as server:
        network.behind |= {PUBLIC: server.port, OTHER_PUBLIC: server.port}
        studio = fetcher(network, trusted_url="http://pictures.example/")
        assert studio.fetch("http://pictures.example/", Token("Token t")) == b"picture"
        assert sent_tokens(server) == ["Token t", None]


def test_a_refused_token_is_replaced_once(network: Network) -> None:
    def respond(exchange: Exchange, received: Received) -> None:
        fresh = received.headers["Authorization"] == "Bearer new"
        exchange.answer(200 if fresh else 401, b"picture")

    with serve(respond) as server:
        network.behind[PUBLIC] = server.port
        studio = fetcher(network, trusted_url="http://pictures.example/")
        token = Token("Bearer old", "Bearer new")
        assert studio.fetch("http://pictures.example/", token) == b"picture"
        assert token.refused == ["Bearer old"]
        with pytest.raises(ImageFetchError, match="check LABEL_STUDIO_ACCESS_TOKEN"):
            studio.fetch("http://pictures.example/", Token("Bearer 1", "Bearer 2", "Bearer 3"))
    assert sent_tokens(server) == ["Bearer old", "Bearer new", "Bearer 1", "Bearer 2"]


# Limits -----------------------------------------------------------------------------------------


def test_a_picture_of_exactly_the_limit_is_taken(network: Network) -> None:
    with serve(lambda exchange, _: exchange.answer(200, b"x" * 1000)) as server:
        network.behind[PUBLIC] = server.port
        assert fetcher(network).fetch("http://pictures.example/") == b"x" * 1000


def test_a_larger_picture_is_refused_by_its_declared_length(network: Network) -> None:
    sent = threading.Event()

    def respond(exchange: Exchange, received: Received) -> None:
        exchange.send_response(200)
        exchange.send_header("Content-Length", "1001")
        exchange.end_headers()
        sent.wait(5)

    with serve(respond) as server:
        network.behind[PUBLIC] = server.port
        with pytest.raises(ImageFetchError, match=r"larger than 1000 bytes.*images.max_bytes"):
            fetcher(network).fetch("http://pictures.example/")
        sent.set()


@pytest.mark.parametrize("chunked", [True, False])
def test_an_endless_picture_is_cut_at_the_limit(chunked: bool, network: Network) -> None:
    sent = []

    def endless(connection: socket.socket) -> None:
        head = b"Transfer-Encoding: chunked\r\n" if chunked else b""
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        for _ in range(100_000):
            connection.sendall(b"64\r\n" + b"x" * 100 + b"\r\n" if chunked else b"x" * 100)
            sent.append(100)

    with serve_raw(endless) as port:
        network.behind[PUBLIC] = port
        with pytest.raises(ImageFetchError, match="larger than 1000 bytes"):
            fetcher(network).fetch("http://pictures.example/")
    assert sum(sent) < 10_000_000


DRIPS = {
    "nothing": (b"", b""),
    "status line": (b"", b"H"),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "one header": (b"HTTP/1.1 200 OK\r\nX: ", b"y"),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body of known length": (b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", b"x"),
    "body of unknown length": (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "chunk length": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
    "redirect": (b"HTTP/1.1 302 Found\r\nLocation: /", b"x"),
}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("name", DRIPS)
def test_a_dripping_server_is_cut_at_the_total_time(
    name: str, scheme: str, network: Network
) -> None:
    start, drop = DRIPS[name]
    stop = threading.Event()
    drops = 0

    def drip(connection: socket.socket) -> None:
        nonlocal drops
        connection.sendall(start)
        while not stop.wait(0.02):
            connection.sendall(drop)
            drops += 1

    with serve_raw(drip) as port:
        network.behind[PUBLIC] = port
        with pytest.raises(ImageFetchError):
            fetcher(network, HASTY).fetch(f"{scheme}://pictures.example/?secret")
        stop.set()
    assert drops < HASTY.max_bytes / 2  # so that the time ended the transfer, and not the size


def test_a_dripping_tls_handshake_is_cut_at_the_total_time(network: Network) -> None:
    drops = 0

    def drip(connection: socket.socket) -> None:
        nonlocal drops
        connection.sendall(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc")  # a long ServerHello begins
        while True:
            connection.sendall(b"\x03")
            drops += 1
            time.sleep(0.02)

    with serve_raw(drip) as port:
        network.behind[PUBLIC] = port
        with pytest.raises(ImageFetchError, match=r"did not send the picture within 0.4 s"):
            fetcher(network, HASTY).fetch("https://pictures.example/")
    assert 1 < drops < 0x4000  # cut within the handshake, whose ServerHello has so many bytes


def test_total_time_counts_all_hops_together(network: Network) -> None:
    def slow_redirect(exchange: Exchange, received: Received) -> None:
        time.sleep(0.15)
        exchange.answer(302, Location="/again")

    with serve(slow_redirect) as server:
        network.behind[PUBLIC] = server.port
        with pytest.raises(ImageFetchError, match=r"did not send the picture within 0.4 s"):
            fetcher(network, HASTY).fetch("http://pictures.example/")


def test_connecting_has_a_limit_for_all_addresses_together(network: Network) -> None:
    limits = FetchLimits(max_bytes=1000, connect_timeout_s=0.2, total_timeout_s=10)
    asked: list[float] = []

    def never(address: str, port: int, timeout_s: float) -> socket.socket:
        asked.append(timeout_s)
        time.sleep(timeout_s)
        raise TimeoutError

    network.names["pictures.example"] = [(PUBLIC, OTHER_PUBLIC)]
    slow = ImageFetcher(limits, resolve=network.resolve, connect=never)
    with pytest.raises(ImageFetchError, match=r"no connection within 0.2 s"):
        slow.fetch("http://pictures.example/")
    assert sum(asked) < 0.3


def test_the_next_address_is_tried_when_one_refuses(network: Network, site: LocalServer) -> None:
    network.names["pictures.example"] = [(OTHER_PUBLIC, PUBLIC)]
    assert fetcher(network).fetch("http://pictures.example/") == b"picture"
    assert network.connected == [(OTHER_PUBLIC, 80), (PUBLIC, 80)]


def test_no_thread_or_socket_stays_behind(network: Network, site: LocalServer) -> None:
    open_files = Path("/proc/self/fd")
    fetcher(network).fetch("http://pictures.example/")
    before = (threading.active_count(), len(list(open_files.iterdir())))
    for _ in range(20):
        fetcher(network).fetch("http://pictures.example/")
        with pytest.raises(ImageFetchError):
            fetcher(network).fetch("http://other.example/")
    time.sleep(0.1)
    after = (threading.active_count(), len(list(open_files.iterdir())))
    assert after[0] <= before[0] + 1
    assert after[1] <= before[1] + 2


def test_many_threads_share_one_fetcher(network: Network) -> None:
    def echo(exchange: Exchange, received: Received) -> None:
        exchange.answer(200, received.path.encode())

    with serve(echo) as server, ThreadPoolExecutor(16) as pool:
        network.behind[PUBLIC] = server.port
        shared = fetcher(network)
        paths = [f"/{turn}" for turn in range(100)]
        bodies = pool.map(shared.fetch, (f"http://pictures.example{path}" for path in paths))
        assert [body.decode() for body in bodies] == paths


# Redirects and answers --------------------------------------------------------------------------


def test_five_redirects_are_followed_and_the_sixth_is_not(network: Network) -> None:
    def countdown(exchange: Exchange, received: Received) -> None:
        left = int(received.path[1:])
        if left == 0:
            exchange.answer(200, b"picture")
        else:
            exchange.answer(302, Location=f"/{left - 1}")

    with serve(countdown) as server:
        network.behind[PUBLIC] = server.port
        assert fetcher(network).fetch("http://pictures.example/5") == b"picture"
        with pytest.raises(ImageFetchError, match="redirects more than 5 times"):
            fetcher(network).fetch("http://pictures.example/6")


def test_redirect_without_location_is_an_error(network: Network) -> None:
    with serve(lambda exchange, _: exchange.answer(302)) as server:
        network.behind[PUBLIC] = server.port
        with pytest.raises(ImageFetchError, match="redirect without a target"):
            fetcher(network).fetch("http://pictures.example/")


def test_redirect_to_a_path_in_utf8_is_followed(network: Network) -> None:
    def respond(exchange: Exchange, received: Received) -> None:
        if received.path == "/":
            exchange.answer(302, Location="/bücher".encode().decode("latin-1"))
        else:
            exchange.answer(200, received.path.encode())

    with serve(respond) as server:
        network.behind[PUBLIC] = server.port
        assert fetcher(network).fetch("http://pictures.example/") == b"/b%C3%BCcher"


@pytest.mark.parametrize(
    ("status", "token", "sentence"),
    [
        (
            401,
            None,
            r"Label Studio \(pictures.example:80\) requires.*set LABEL_STUDIO_ACCESS",
        ),
        (401, Token("Token t"), r"refuses the token \(HTTP 401\); check LABEL_STUDIO_ACCESS_TOKEN"),
        (403, Token("Token t"), r"refuses the token \(HTTP 403\); check LABEL_STUDIO_ACCESS_TOKEN"),
        (
            404,
            Token("Token t"),
            r"no picture at its address \(HTTP 404\); check the picture's",
        ),
        (
            500,
            Token("Token t"),
            r"\(HTTP 500\); try again later. Label Studio 1.23 also answers so",
        ),
        (503, Token("Token t"), r"\(HTTP 503\); try again later.$"),
    ],
)
def test_refusals_of_label_studio_say_what_to_do(
    status: int, token: Token | None, sentence: str, network: Network
) -> None:
    with serve(lambda exchange, _: exchange.answer(status, b"SERVER TEXT")) as server:
        network.behind[PUBLIC] = server.port
        studio = fetcher(network, trusted_url="http://pictures.example")
        with pytest.raises(ImageFetchError, match=sentence):
            studio.fetch("http://pictures.example/a.jpg", token)
    assert len(server.received) == 1  # a token without successor is not sent twice


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (304, "no picture at its address"),
        (401, "make it public"),
        (403, "make it public"),
        (404, "check the picture's address"),
        (429, "try again later"),
        (500, "try again later"),
        (503, "try again later"),
    ],
)
def test_refusals_name_host_and_status_and_nothing_secret(
    status: int, sentence: str, network: Network
) -> None:
    with serve(lambda exchange, _: exchange.answer(status, b"SERVER TEXT", X="SERVER")) as server:
        network.behind[PUBLIC] = server.port
        with pytest.raises(ImageFetchError, match=sentence) as caught:
            fetcher(network).fetch("http://pictures.example/PATH?SIGNATURE", Token("Token TOKEN"))
    text = str(caught.value)
    assert "pictures.example" in text
    assert str(status) in text
    assert not any(word in text for word in ("SERVER", "PATH", "SIGNATURE", "TOKEN"))
    assert str(pickle.loads(pickle.dumps(caught.value))) == text
    assert isinstance(caught.value, ImageUnavailableError) == ("later" in sentence)
    assert isinstance(caught.value, ImageServerError) == (status == 500)


def test_unreachable_hosts_say_what_to_check(network: Network) -> None:
    with pytest.raises(ImageUnavailableError, match="refuses the connection; check the picture's"):
        fetcher(network).fetch("http://pictures.example/")
    with pytest.raises(ImageUnavailableError, match="name is not known here; check the picture's"):
        fetcher(network).fetch("http://nowhere.example/")
    with pytest.raises(ImageFetchError, match="name is not known here"):
        fetcher(network).fetch(f"http://{'a' * 64}.example/")
    studio = fetcher(network, trusted_url="http://pictures.example")
    with pytest.raises(ImageFetchError, match="refuses the connection; check LABEL_STUDIO_HOST"):
        studio.fetch("http://pictures.example/")


BROKEN = [
    b"",
    b"\xff\xfe\x00",
    b"HTTP/9 hello\r\n\r\n",
    b"HTTP/1.1 abc\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nshort",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nab",
    b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nx",
    b"HTTP/1.1 200 OK\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(200)) + b"\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: /\xff\xff\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n",
]


@pytest.mark.parametrize("answer", BROKEN)
def test_broken_answers_are_fetch_errors(answer: bytes, network: Network) -> None:
    with serve_raw(lambda connection: connection.sendall(answer)) as port:
        network.behind[PUBLIC] = port
        with pytest.raises(ImageFetchError, match=r"pictures.example"):
            fetcher(network).fetch("http://pictures.example/?SIGNATURE")


def test_proxies_cookies_and_netrc_of_the_environment_are_not_used(
    network: Network, site: LocalServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine pictures.example login someone password something\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert fetcher(network).fetch("http://pictures.example/") == b"picture"
    assert network.connected == [(PUBLIC, 80)]
    assert sent_tokens(site) == [None]


def test_cookies_of_one_hop_are_not_sent_with_the_next(network: Network) -> None:
    def respond(exchange: Exchange, received: Received) -> None:
        if received.path == "/":
            exchange.answer(302, Location="/picture", Set_Cookie="id=1")
        else:
            exchange.answer(200, received.headers.get("Cookie", "none").encode())

    with serve(respond) as server:
        network.behind[PUBLIC] = server.port
        assert fetcher(network).fetch("http://pictures.example/") == b"none"


# TLS --------------------------------------------------------------------------------------------


def certificate_for(name: str, folder: Path) -> Path:
    """A self-signed certificate and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    path = folder / f"{name}.pem"
    path.write_bytes(
        certificate.public_bytes(pem)
        + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@pytest.fixture
def tls_site(network: Network, tmp_path: Path) -> Iterator[Path]:
    """https://pictures.example/ with a certificate of its own making."""
    path = certificate_for("pictures.example", tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    with serve(picture, context) as server:
        network.behind |= {PUBLIC: server.port, OTHER_PUBLIC: server.port}
        yield path


def test_tls_verifies_the_name_although_the_address_is_pinned(
    network: Network, tls_site: Path
) -> None:
    trusting = fetcher(network, tls=ssl.create_default_context(cafile=str(tls_site)))
    assert trusting.fetch("https://pictures.example/") == b"picture"
    assert network.connected == [(PUBLIC, 443)]
    with pytest.raises(ImageFetchError, match="certificate for another name"):
        trusting.fetch("https://other.example/")


def test_unknown_certificates_are_not_trusted(network: Network, tls_site: Path) -> None:
    plain = ImageFetcher(LIMITS, resolve=network.resolve, connect=network.connect)
    with pytest.raises(ImageFetchError, match="issuer is not trusted"):
        plain.fetch("https://pictures.example/")
