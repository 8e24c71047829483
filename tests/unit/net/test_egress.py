"""Requests through a company's proxy and past it, and the secrets that a proxy must not see."""

from __future__ import annotations

import base64
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from prelabel.cli.service_client import ServiceClient
from prelabel.errors import ImageAddressError, ImageFetchError, PrelabelError, ProxyError
from prelabel.images.fetch import FetchLimits, ImageFetcher
from prelabel.labelstudio.image_locator import ImageLocator, ImageRequest
from prelabel.labelstudio.rest import LabelStudioAPI
from prelabel.net.egress import Egress
from prelabel.net.proxies import Proxies
from prelabel.net.tls import Trust, tls_context
from prelabel.settings import Environment
from tests.support.certificate_authority import Authority
from tests.support.fake_label_studio import LEGACY, LabelStudio
from tests.support.fake_label_studio import running as studio_running
from tests.support.forward_proxy import ForwardProxy, proxying
from tests.support.http_server import Exchange, LocalServer, Network, Received, serve, serve_raw
from tests.support.local_service import LocalService
from tests.support.local_service import running as service_running

PUBLIC = "93.184.216.34"
LIMITS = FetchLimits(max_bytes=1000, connect_timeout_s=5, total_timeout_s=10)
DEAD = "http://127.0.0.1:9"
PASSWORD = "user:pass word@"
IN_URL = "user:pass%20word%40@"
BASIC = base64.b64encode(PASSWORD.encode()).decode()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def site() -> Iterator[LocalServer]:
    def respond(exchange: Exchange, received: Received) -> None:
        if received.path == "/to-https":
            exchange.answer(302, Location="https://tls.example/picture")
        elif received.path == "/to-inside":
            exchange.answer(302, Location="http://10.0.0.1/picture")
        elif received.path == "/large":
            exchange.answer(200, b"x" * 1001)
        elif received.path == "/missing":
            exchange.answer(404)
        else:
            exchange.answer(200, b"picture")

    with serve(respond) as server:
        yield server


@pytest.fixture
def tls_site(authority: Authority) -> Iterator[LocalServer]:
    def respond(exchange: Exchange, _: Received) -> None:
        exchange.answer(200, b"picture")

    with serve(respond, authority.server("tls.example")) as server:
        yield server


@pytest.fixture
def proxy(site: LocalServer, tls_site: LocalServer) -> Iterator[ForwardProxy]:
    behind = {"pictures.example:80": site.port, "tls.example:443": tls_site.port}
    behind |= {f"{PUBLIC}:80": site.port, "unknown.example:80": site.port}
    with proxying(ForwardProxy(behind)) as running:
        yield running


@pytest.fixture
def network(proxy: ForwardProxy) -> Network:
    port = int(proxy.url.rpartition(":")[2])
    names: dict[str, list[tuple[str, ...]]] = {
        "pictures.example": [(PUBLIC,)],
        "tls.example": [(PUBLIC,)],
        "inside.example": [("10.0.0.1",)],
        "proxy.example": [("10.9.9.9",)],
    }
    return Network(names, {"10.9.9.9": port})


def proxies(url: str = "http://proxy.example:3128", no_proxy: str = "") -> Proxies:
    return Proxies.of({"HTTP_PROXY": url, "HTTPS_PROXY": url}, no_proxy)


def fetcher(
    network: Network,
    authority: Authority,
    through: Proxies | None = None,
    *,
    allowed: tuple[str, ...] = (),
    resolves: bool = False,
    limits: FetchLimits = LIMITS,
) -> ImageFetcher:
    return ImageFetcher(
        limits,
        allowed_hosts=allowed,
        trusted_url="http://studio.example",
        tls=tls_context(Trust((("SSL_CERT_FILE", str(authority.path)),))),
        proxies=through or proxies(),
        proxy_resolves_names=resolves,
        resolve=network.resolve,
        connect=network.connect,
    )


# Pictures ---------------------------------------------------------------------------------------


def test_http_goes_to_the_proxy_with_the_whole_address(
    network: Network, authority: Authority, proxy: ForwardProxy, site: LocalServer
) -> None:
    assert fetcher(network, authority).fetch("http://pictures.example/a?b=1#c") == b"picture"
    assert network.connected == [("10.9.9.9", 3128)]
    assert proxy.asked == ["GET http://pictures.example/a?b=1"]
    assert proxy.received[0].headers["Host"] == "pictures.example"
    assert site.received[0].path == "/a?b=1"


def test_https_goes_through_a_tunnel_and_is_verified_end_to_end(
    network: Network, authority: Authority, proxy: ForwardProxy, tmp_path: Path
) -> None:
    assert fetcher(network, authority).fetch("https://tls.example/SECRET") == b"picture"
    assert proxy.asked == ["CONNECT tls.example:443"]
    assert network.connected == [("10.9.9.9", 3128)]
    (tmp_path / "other").mkdir()
    with pytest.raises(ImageFetchError, match="issuer is not trusted"):
        fetcher(network, Authority(tmp_path / "other")).fetch("https://tls.example/")


def test_a_redirect_from_http_to_https_takes_the_tunnel(
    network: Network, authority: Authority, proxy: ForwardProxy
) -> None:
    assert fetcher(network, authority).fetch("http://pictures.example/to-https") == b"picture"
    assert proxy.asked == ["GET http://pictures.example/to-https", "CONNECT tls.example:443"]


def test_the_password_goes_to_the_proxy_alone(
    network: Network,
    authority: Authority,
    proxy: ForwardProxy,
    site: LocalServer,
    tls_site: LocalServer,
) -> None:
    proxy.password = PASSWORD
    through = proxies(f"http://{IN_URL}proxy.example:3128/")
    for url in ("http://pictures.example/to-https", "https://tls.example/"):
        assert fetcher(network, authority, through).fetch(url) == b"picture"
    sent = [received.headers["Proxy-Authorization"] for received in proxy.received]
    assert sent == [f"Basic {BASIC}"] * 3
    for server in (site, tls_site):
        assert server.received
        assert not any(BASIC in str(received) for received in server.received)
    assert not any(secret in f"{through!r} {through.http}" for secret in (BASIC, "pass", "user"))


@pytest.mark.parametrize("url", ["http://pictures.example/", "https://tls.example/"])
def test_a_proxy_that_wants_a_password_says_so(
    url: str, network: Network, authority: Authority, proxy: ForwardProxy
) -> None:
    proxy.password = PASSWORD
    variable = "HTTPS_PROXY" if url.startswith("https") else "HTTP_PROXY"
    with pytest.raises(ImageFetchError, match=rf"requires a user name.*407.*{variable}") as caught:
        fetcher(network, authority).fetch(url)
    wrong = proxies("http://user:wrong@proxy.example:3128")
    with pytest.raises(ImageFetchError, match=rf"rejects its password.*{variable}") as other:
        fetcher(network, authority, wrong).fetch(url)
    for error in (caught, other):
        assert "PROXY TEXT" not in str(error.value)
        assert "wrong" not in str(error.value)


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (403, "blocks requests to tls.example:443"),
        (502, "cannot reach tls.example:443"),
        (504, "cannot reach tls.example:443"),
    ],
)
def test_what_a_proxy_refuses_is_a_sentence(
    status: int, sentence: str, network: Network, authority: Authority, proxy: ForwardProxy
) -> None:
    proxy.status = status
    with pytest.raises(ImageFetchError, match=f"{sentence}.*{status}"):
        fetcher(network, authority).fetch("https://tls.example/")
    with pytest.raises(ImageFetchError, match=f"{status}.*went through the proxy proxy.example"):
        fetcher(network, authority).fetch("http://pictures.example/")


def test_a_proxy_that_is_not_there_is_named_with_its_variable(
    network: Network, authority: Authority
) -> None:
    gone = proxies("http://gone.example:3128"), proxies("http://proxy.example:3128")
    network.behind.clear()
    for through, reason in zip(gone, ("its name is not known", "it refuses"), strict=True):
        for url, variable in (("http://pictures.example/", "HTTP"), ("https://tls.example/", "S")):
            with pytest.raises(ImageFetchError, match=rf"cannot be reached: {reason}") as caught:
                fetcher(network, authority, through).fetch(url)
            assert f"{variable}_PROXY" in str(caught.value)
            assert "NO_PROXY" in str(caught.value)


def test_something_else_in_the_place_of_the_proxy_is_named(
    network: Network, authority: Authority
) -> None:
    with serve_raw(lambda connection: connection.sendall(b"SSH-2.0\r\n\r\n")) as port:
        network.behind["10.9.9.9"] = port
        with pytest.raises(ImageFetchError, match="does not answer as an HTTP proxy"):
            fetcher(network, authority).fetch("https://tls.example/")


def test_a_proxy_that_drips_is_cut_at_the_total_time(
    network: Network, authority: Authority
) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            connection.sendall(b"X: y\r\n")
            connection.settimeout(0.05)
            try:
                if not connection.recv(1):
                    return
            except TimeoutError:
                continue

    hasty = FetchLimits(max_bytes=1000, connect_timeout_s=5, total_timeout_s=0.4)
    with serve_raw(drip) as port:
        network.behind["10.9.9.9"] = port
        with pytest.raises(ImageFetchError, match=r"within 0\.4 s"):
            fetcher(network, authority, limits=hasty).fetch("https://tls.example/")


def test_an_endless_answer_to_connect_is_not_read_to_its_end(
    network: Network, authority: Authority
) -> None:
    def flood(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"x" * 65536)

    with serve_raw(flood) as port:
        network.behind["10.9.9.9"] = port
        with pytest.raises(ImageFetchError, match="does not answer as an HTTP proxy"):
            fetcher(network, authority).fetch("https://tls.example/")


def test_limits_hold_behind_a_proxy(network: Network, authority: Authority) -> None:
    with pytest.raises(ImageFetchError, match="larger than 1000 bytes"):
        fetcher(network, authority).fetch("http://pictures.example/large")
    with pytest.raises(ImageFetchError, match=r"no picture at its address \(HTTP 404\)"):
        fetcher(network, authority).fetch("http://pictures.example/missing")


# Inside addresses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        *("http://10.0.0.1/", "https://10.0.0.1/", "http://169.254.169.254/latest/"),
        *("http://[fd00::1]/", "http://[::ffff:10.0.0.1]/", "http://0x0a000001/", "http://10.1/"),
        *("http://inside.example/", "https://inside.example/", f"http://{PUBLIC}:22/"),
        *("http://unknown.example/", "http://pictures.example/to-inside"),
    ],
)
def test_what_is_inside_or_cannot_be_told_is_not_asked_of_the_proxy(
    url: str, network: Network, authority: Authority, proxy: ForwardProxy
) -> None:
    with pytest.raises(ImageAddressError):
        fetcher(network, authority).fetch(url)
    assert len(proxy.asked) == (1 if "to-inside" in url else 0)


def test_a_public_number_is_asked_of_the_proxy(
    network: Network, authority: Authority, proxy: ForwardProxy
) -> None:
    assert fetcher(network, authority).fetch(f"http://{PUBLIC}/") == b"picture"
    assert proxy.asked == [f"GET http://{PUBLIC}/"]


def test_a_name_that_the_proxy_alone_knows_needs_a_setting_or_an_entry(
    network: Network, authority: Authority, proxy: ForwardProxy
) -> None:
    url = "http://unknown.example/"
    with pytest.raises(ImageAddressError) as caught:
        fetcher(network, authority).fetch(url)
    assert "add unknown.example to ALLOWED_IMAGE_HOSTS" in str(caught.value)
    assert "proxy_resolves_names" in str(caught.value)
    assert fetcher(network, authority, resolves=True).fetch(url) == b"picture"
    for allowed in ("unknown.example", "*.example.com", "*.unknown.example", "unknown.example:80"):
        if "*" not in allowed:
            assert fetcher(network, authority, allowed=(allowed,)).fetch(url) == b"picture"
        else:
            with pytest.raises(ImageAddressError):
                fetcher(network, authority, allowed=(allowed,)).fetch(url)
    assert len(proxy.asked) == 3


@pytest.mark.parametrize("url", ["http://inside.example/", "http://10.0.0.1/", "http://0x7f.1/"])
def test_the_setting_lets_no_known_inside_address_through(
    url: str, network: Network, authority: Authority, proxy: ForwardProxy
) -> None:
    with pytest.raises(ImageAddressError):
        fetcher(network, authority, resolves=True).fetch(url)
    assert proxy.asked == []


# Past the proxy ---------------------------------------------------------------------------------


def test_what_no_proxy_names_is_reached_directly(
    network: Network, authority: Authority, proxy: ForwardProxy, site: LocalServer
) -> None:
    network.behind[PUBLIC] = site.port
    direct = fetcher(network, authority, proxies(no_proxy="pictures.example"))
    assert direct.fetch("http://pictures.example/") == b"picture"
    assert network.connected == [(PUBLIC, 80)]
    assert proxy.asked == []


def test_loopback_is_never_asked_of_a_proxy(site: LocalServer) -> None:
    allowed = (f"127.0.0.1:{site.port}",)
    plain = ImageFetcher(LIMITS, allowed_hosts=allowed, proxies=proxies(DEAD))
    assert plain.fetch(site.url) == b"picture"


# Label Studio and the service -------------------------------------------------------------------


def egress(authority: Authority, url: str) -> Egress:
    return Egress(tls_context(Trust((("SSL_CERT_FILE", str(authority.path)),))), proxies(url))


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_label_studio_is_asked_through_the_proxy(
    scheme: str, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    studio, port = LabelStudio(), 80 if scheme == "http" else 443
    tls = authority.server("studio.example") if scheme == "https" else None
    proxy = ForwardProxy(password=PASSWORD)
    with (
        caplog.at_level(logging.DEBUG),
        serve(studio.respond, tls) as server,
        proxying(proxy),
    ):
        proxy.behind[f"studio.example:{port}"] = server.port
        way = egress(authority, proxy.url.replace("//", f"//{IN_URL}"))
        api = LabelStudioAPI(f"{scheme}://studio.example", SecretStr(studio.token), way)
        assert api.version() == "1.23.2"
        assert api.project(3).title == "Cats"
    asked = {"POST", "GET"} if scheme == "http" else {"CONNECT"}
    assert {received.method for received in proxy.received} == asked
    seen = str(proxy.received)
    assert (studio.token in seen) == (scheme == "http")  # it reads what is not encrypted
    assert not any("Proxy-Authorization" in received.headers for received in server.received)
    assert not any(secret in caplog.text for secret in (BASIC, "pass", studio.token))


def test_an_upload_and_its_access_token_come_through_the_proxy(authority: Authority) -> None:
    studio = LabelStudio()

    def respond(exchange: Exchange, received: Received) -> None:
        if received.path.startswith("/data/"):
            exchange.answer(200, received.headers.get("Authorization", "").encode())
        else:
            studio.respond(exchange, received)

    url, proxy = "https://studio.example", ForwardProxy()
    with serve(respond, authority.server("studio.example")) as server, proxying(proxy):
        proxy.behind["studio.example:443"] = server.port
        way = egress(authority, proxy.url)
        client = ImageLocator(
            url,
            SecretStr(studio.token),
            max_image_bytes=1000,
            connect_timeout_s=2,
            timeout_s=2,
            egress=way,
        )
        fetcher = ImageFetcher(LIMITS, trusted_url=url, tls=way.tls, proxies=way.proxies)
        found = client.locate("/data/upload/1/a.png", 7)
        assert isinstance(found, ImageRequest)
        assert fetcher.fetch(found.url, found.credentials).startswith(b"Bearer ")
    assert set(proxy.asked) == {"CONNECT studio.example:443"}


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_a_password_says_so_to_all_clients(
    scheme: str, authority: Authority
) -> None:
    with proxying(ForwardProxy(password=PASSWORD)) as proxy:
        way = egress(authority, proxy.url)
        for token in (LEGACY, LabelStudio().token):
            api = LabelStudioAPI(f"{scheme}://studio.example", SecretStr(token), way)
            with pytest.raises(PrelabelError, match=rf"requires a user.*{scheme.upper()}_PROXY"):
                api.project(3)
        with pytest.raises(PrelabelError, match=rf"requires a user.*{scheme.upper()}_PROXY"):
            ServiceClient(f"{scheme}://service.example", None, way).health()


def test_a_proxy_that_hangs_is_given_up(authority: Authority) -> None:
    hangs = threading.Event()

    def hang(_: socket.socket) -> None:
        hangs.wait(10)

    with serve_raw(hang) as port:
        way = egress(authority, f"http://127.0.0.1:{port}")
        with (
            way.session("https://studio.example", 0.2) as session,
            pytest.raises(ProxyError, match=r"did not answer in time\. Check HTTPS_PROXY"),
        ):
            session.get("https://studio.example/")
        hangs.set()


def test_a_dead_proxy_is_named_by_every_client_of_label_studio(authority: Authority) -> None:
    way = egress(authority, DEAD)
    for token in (LEGACY, LabelStudio().token):
        api = LabelStudioAPI("https://studio.example", SecretStr(token), way)
        with pytest.raises((ProxyError, ImageFetchError), match=r"127.0.0.1:9 \(HTTPS_PROXY\)"):
            api.project(3)


def test_the_service_is_asked_through_the_proxy_but_on_loopback(authority: Authority) -> None:
    service = LocalService(Environment())
    with service_running(service) as url, proxying(ForwardProxy()) as proxy:
        assert ServiceClient(url, None, egress(authority, DEAD)).health().service_version
        proxy.behind["service.example:9090"] = int(url.rpartition(":")[2])
        way = egress(authority, proxy.url)
        assert ServiceClient("http://service.example:9090", None, way).health().service_version
        assert proxy.asked == ["GET http://service.example:9090/health"]
        with pytest.raises(PrelabelError, match="HTTP_PROXY"):
            ServiceClient("http://service.example:9090", None, egress(authority, DEAD)).health()


def test_a_label_studio_on_loopback_needs_no_proxy(authority: Authority) -> None:
    studio = LabelStudio()
    with studio_running(studio) as server:
        api = LabelStudioAPI(server.url, SecretStr(studio.token), egress(authority, DEAD))
        assert api.project(3).title == "Cats"
