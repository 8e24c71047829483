"""Every address of hostile_addresses.yaml is refused before a connection is opened.

Asked for as the ingress does it: located, then fetched. The connect step is the test's own: it
writes down what it is asked for and connects to loopback only, so that nothing leaves this machine
where a defence is broken.
"""

from __future__ import annotations

import copy
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import SecretStr

from prelabel.errors import ImageAddressError, ImageError, ImageFetchError
from prelabel.images.fetch import MAX_REDIRECTS, FetchLimits, ImageFetcher
from prelabel.labelstudio.image_locator import ImageLocator
from tests.support.http_server import Exchange, LocalServer, Network, Received, serve

PUBLIC, START = "93.184.216.34", "198.41.0.4"
STUDIO = "http://studio.example:8080/ls"
LIMITS = FetchLimits(max_bytes=1000, connect_timeout_s=5, total_timeout_s=10)
TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TABLE = yaml.safe_load((Path(__file__).parent / "hostile_addresses.yaml").read_text())
ADDRESSES: list[str] = [each for group in TABLE["groups"] for each in group["addresses"]]
# Addresses that a browser follows from a page of another host.
ABSOLUTE = [each for each in ADDRESSES if re.match(r"\s*//|[\w+.-]+:", each)]


@pytest.fixture
def network() -> Network:
    names = copy.deepcopy(TABLE["names"]) | {"studio.example": [["10.9.9.9"]]}
    return Network(names=names)


@pytest.fixture(scope="module")
def maze() -> Iterator[LocalServer]:
    """/3/17 redirects to /2/17, that to /1/17, and that to the 17th address."""

    def respond(exchange: Exchange, received: Received) -> None:
        if not (place := re.fullmatch(r"/(\d+)/(\d+)", received.path)):
            exchange.answer(404)
        elif (left := int(place[1])) > 1:
            exchange.answer(302, Location=f"/{left - 1}/{place[2]}")
        else:
            # A header holds no line break, and bytes where we write letters.
            address = re.sub(r"[\r\n]", "", ABSOLUTE[int(place[2])])
            exchange.answer(302, Location=address.encode().decode("latin-1"))

    with serve(respond) as server:
        yield server


def fetcher(network: Network) -> ImageFetcher:
    return ImageFetcher(
        LIMITS,
        trusted_url=STUDIO,
        tls=TRUSTS_NOBODY,
        resolve=network.resolve,
        connect=network.connect,
    )


def ask(address: str, network: Network) -> bytes:
    studio = ImageLocator(
        STUDIO,
        SecretStr("canary"),
        max_image_bytes=LIMITS.max_bytes,
        connect_timeout_s=LIMITS.connect_timeout_s,
        timeout_s=LIMITS.total_timeout_s,
    )
    found = studio.locate(address, 7)
    if isinstance(found, bytes):
        return found
    return fetcher(network).fetch(found.url, found.credentials)


def test_the_table_is_large_and_says_everything_once() -> None:
    assert len(ADDRESSES) >= 150
    assert len(ADDRESSES) == len(set(ADDRESSES))
    assert all(group["why"].endswith(".") for group in TABLE["groups"])


@pytest.mark.parametrize("address", ADDRESSES)
def test_hostile_addresses_are_refused_before_a_connection(address: str, network: Network) -> None:
    with pytest.raises(ImageAddressError) as caught:
        ask(address, network)
    assert network.connected == []
    assert str(caught.value).endswith((".", "ALLOWED_IMAGE_HOSTS."))
    assert not any(secret in str(caught.value) for secret in ("canary", "secret", "passwd"))


def test_the_fetcher_alone_refuses_them_too(network: Network) -> None:
    for address in ADDRESSES:
        if "://" in address:
            with pytest.raises(ImageAddressError):
                fetcher(network).fetch(address)
        assert network.connected == [], address


@pytest.mark.parametrize(("hop", "step"), [(1, 1), (2, 10), (MAX_REDIRECTS, 10)])
def test_redirects_to_hostile_addresses_are_not_followed(
    hop: int, step: int, network: Network, maze: LocalServer
) -> None:
    network.behind[START] = maze.port
    for number, address in list(enumerate(ABSOLUTE))[::step]:
        network.connected.clear()
        with pytest.raises(ImageError):
            fetcher(network).fetch(f"http://start.example/{hop}/{number}")
        # To the host that redirects; and where the header's line break is gone, to a public one.
        asked = network.connected[:hop], network.connected[hop:]
        assert asked[0] == [(START, 80)] * hop, address
        assert {server for server, _ in asked[1]} <= {PUBLIC, START}, address


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_system_s_own_resolver_and_connect_step_are_guarded_alike(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps that the service uses, and not the test's: what they ask of the system."""
    answers = {name: found[0] for name, found in TABLE["names"].items()}
    connected: list[object] = []

    def getaddrinfo(host: str, port: int, *_: object, **__: object) -> list[object]:
        return [(2, 1, 6, "", (address, port)) for address in answers[host]]

    def create_connection(address: object, *_: object, **__: object) -> socket.socket:
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(socket, "create_connection", create_connection)
    plain = ImageFetcher(LIMITS, tls=TRUSTS_NOBODY)
    public = {"pictures.example", "start.example", "user"}
    for name in answers.keys() - public:
        with pytest.raises(ImageAddressError):
            plain.fetch(f"{scheme}://{name}/")
    assert connected == []
    with pytest.raises(ImageFetchError, match="refuses the connection"):
        plain.fetch(f"{scheme}://pictures.example/")
    assert connected == [(PUBLIC, 443 if scheme == "https" else 80)]


@pytest.mark.parametrize("later", ["127.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1"])
def test_a_name_that_changes_between_check_and_connection_gains_nothing(
    later: str, network: Network
) -> None:
    network.names["rebinding.example"] = [(PUBLIC,), (later,)]
    with pytest.raises(ImageFetchError, match="refuses the connection"):
        ask("http://rebinding.example/", network)
    assert network.looked_up == ["rebinding.example"]
    assert network.connected == [(PUBLIC, 80)]
    with pytest.raises(ImageAddressError):  # the second look-up, for the second request
        ask("http://rebinding.example/", network)
    assert network.connected == [(PUBLIC, 80)]


def test_an_operator_may_allow_a_host_and_its_odd_port(network: Network) -> None:
    network.names["intranet"] = [("10.1.2.3",)]
    with serve(lambda exchange, _: exchange.answer(200, b"picture")) as server:
        network.behind["10.1.2.3"] = server.port
        allowing = ImageFetcher(
            LIMITS,
            allowed_hosts=("intranet:6000",),
            resolve=network.resolve,
            connect=network.connect,
        )
        assert allowing.fetch("http://intranet:6000/") == b"picture"
