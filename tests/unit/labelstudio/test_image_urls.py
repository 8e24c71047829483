"""Label Studio's own pictures in the spellings that tasks have; a real server is in its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from prelabel.labelstudio.image_locator import ImageLocator
from prelabel.labelstudio.image_urls import path_of_key, studio_path, studio_url
from prelabel.settings import Environment
from tests.support.hostile_images import png
from tests.support.http_server import Exchange, LocalServer, Network, Received, serve
from tests.support.local_service import LocalService
from tests.support.work import count_calls

TOKEN = "0123456789abcdef0123456789abcdef01234567"
STUDIO = "http://studio.example:8080"
CONFIG = (
    '<View><TextArea name="prompt" toName="image" editable="true" rows="2" maxSubmissions="1" '
    'showSubmitButton="true"/><Image name="image" value="$image"/>'
    '<RectangleLabels name="label" toName="image"><Label value="red star"/></RectangleLabels>'
    "</View>"
)
PUBLIC = "93.184.216.34"


@pytest.fixture
def studio() -> Iterator[LocalServer]:
    """A server that requires the token for uploads, as Label Studio does."""

    def respond(exchange: Exchange, received: Received) -> None:
        if received.headers.get("Authorization") != f"Token {TOKEN}":
            exchange.answer(401)
        elif "missing" in received.path:
            exchange.answer(404)
        else:
            exchange.answer(200, png((8, 8)))

    with serve(respond) as server:
        yield server


@pytest.fixture
def foreign() -> Iterator[LocalServer]:
    with serve(lambda exchange, _: exchange.answer(200, png((8, 8)))) as server:
        yield server


def entry(service: LocalService, image: str) -> dict[str, Any]:
    """The service's answer for one task, asked for as the Data Manager does."""
    body = {
        "tasks": [{"id": 5, "data": {"image": image}}],
        "project": "1.1",
        "label_config": CONFIG,
        "params": {"context": None},
    }
    as_json = {"Content-Type": "application/json"}
    answer = service.ask("POST", "/predict", json.dumps(body).encode(), as_json)
    assert answer.status_code == 200, answer.text
    [result] = answer.json()["results"]
    return dict(result)


def service_of(
    studio: LocalServer, foreign: LocalServer | None = None, prefix: str = ""
) -> LocalService:
    names: dict[str, list[tuple[str, ...]]] = {"pictures.example": [(PUBLIC,)]}
    behind = {"127.0.0.1": studio.port} | ({PUBLIC: foreign.port} if foreign else {})
    environment = Environment.model_validate(
        {"LABEL_STUDIO_HOST": studio.url + prefix, "LABEL_STUDIO_ACCESS_TOKEN": TOKEN}
    )
    return LocalService(environment, Network(names, behind))


@pytest.mark.parametrize(
    ("image", "asked"),
    [
        ("/label-studio/data/upload/4/3b05-a.png", "/data/upload/4/3b05-a.png"),
        ("/tools/ls/data/local-files/?d=a/b.png", "/data/local-files/?d=a/b.png"),
        ("/ls/tasks/5/resolve/?fileuri=czM6", "/tasks/5/resolve/?fileuri=czM6"),
        ("http://localhost:PORT/data/upload/1/x.png", "/data/upload/1/x.png"),
        ("http://[::1]:PORT/data/upload/1/x.png", "/data/upload/1/x.png"),
        ("http://127.0.0.1:PORT/data/upload/1/x.png", "/data/upload/1/x.png"),
        (
            "http://labelstudio.example/storage-data/uploaded/?filepath=upload/1/x.png",
            "/storage-data/uploaded/?filepath=upload/1/x.png",
        ),
        ("https://labelstudio.example/ls/data/upload/1/x.png", "/data/upload/1/x.png"),
        ("//labelstudio.example/data/upload/1/x.png", "/data/upload/1/x.png"),
        ("upload/4/x.png", "/data/upload/4/x.png"),
        ("data/upload/4/x.png", "/data/upload/4/x.png"),
    ],
)
def test_every_spelling_is_asked_of_label_studio_with_its_token(
    image: str, asked: str, studio: LocalServer
) -> None:
    service = service_of(studio)
    answer = entry(service, image.replace("PORT", str(studio.port)))
    assert answer["result"], answer
    assert [received.path for received in studio.received] == [asked]


def test_a_prefix_of_label_studio_itself_is_kept(studio: LocalServer) -> None:
    service = service_of(studio, prefix="/ls")
    for image in ("/other/data/upload/4/x.png", "upload/4/x.png", "/ls/data/upload/4/x.png"):
        assert entry(service, image)["result"]
    assert {received.path for received in studio.received} == {"/ls/data/upload/4/x.png"}


def test_an_address_without_scheme_is_the_page_s(studio: LocalServer, foreign: LocalServer) -> None:
    """And gets no token, if it is no path of Label Studio's."""
    service = service_of(studio, foreign)
    assert entry(service, "//pictures.example/data/a.png")["result"]
    [received] = foreign.received
    assert "Authorization" not in received.headers
    assert studio.received == []
    refused = entry(service, "//10.0.0.1/data/a.png")
    assert "private or local address" in refused["error"]


@pytest.mark.parametrize(
    "image",
    [
        "http://pictures.example/data/a.png",
        "http://pictures.example/data/upload/a.png",
        "http://pictures.example/data/upload/one/a.png",
        "http://pictures.example/data/local-files/a.png?d=1",
        "http://pictures.example/storage-data/uploaded/x.png",
        "http://pictures.example/storage-data/other/?filepath=upload/1/x.png",
        "http://pictures.example/tasks/5/x.png",
        "http://pictures.example/tasks/x/resolve/?fileuri=1",
        "http://pictures.example/a?b=/data/upload/1/x.png",
        "http://pictures.example/a#/data/upload/1/x.png",
    ],
)
def test_usual_folders_of_other_hosts_are_theirs(
    image: str, studio: LocalServer, foreign: LocalServer
) -> None:
    assert entry(service_of(studio, foreign), image)["result"]
    assert studio.received == []
    assert all("Authorization" not in received.headers for received in foreign.received)


def test_the_sentence_says_that_the_host_is_another(studio: LocalServer) -> None:
    said = entry(service_of(studio), "http://labelstudio.example/data/upload/1/missing.png")
    assert "HTTP 404" in said["error"]
    assert "labelstudio.example:80, which is not the host of LABEL_STUDIO_HOST" in said["error"]
    assert said["error"].endswith(".")


def test_without_label_studio_s_address_the_sentence_names_it(foreign: LocalServer) -> None:
    with serve(lambda exchange, _: exchange.answer(401)) as closed:
        network = Network({"ls.example": [(PUBLIC,)]}, {PUBLIC: closed.port})
        service = LocalService(Environment(), network)
        said = entry(service, "http://ls.example/data/upload/1/x.png")
        assert "set LABEL_STUDIO_HOST and LABEL_STUDIO_ACCESS_TOKEN" in said["error"]
        for image in ("upload/4/x.png", "/ls/data/upload/4/x.png"):
            assert "set LABEL_STUDIO_HOST" in entry(service, image)["error"]


CLIMBING = [
    *("/ls/data/upload/1/../../api", "/ls/../data/upload/1/x.png", "/../data/upload/1/x.png"),
    *("/ls/data/upload/1/%2e%2e/x", "/ls/data/upload/1/..%2fx", "/ls/data/upload/1/..\\x"),
    *("/ls/data/upload/1/%252e%252e/x", "/%2e%2e/tasks/1/resolve/?fileuri=a"),
]


@pytest.mark.parametrize("path", CLIMBING)
def test_climbing_is_refused_in_every_spelling(path: str) -> None:
    for studio in (STUDIO, f"{STUDIO}/ls"):
        assert studio_path(path, studio) is None
        assert studio_url(f"http://other.example{path}", studio) is None
    if path.startswith("/ls/data/"):
        assert path_of_key(path.removeprefix("/ls/")) is None


@pytest.mark.parametrize(
    "key",
    [
        *("upload/x.png", "upload/1", "upload/1/", "uploads/1/x.png", "/upload/1/x.png", "x.png"),
        *("upload/1/../x", "upload/1/%2e%2e/x", "upload/1/..\\x", "a/upload/1/x.png"),
    ],
)
def test_other_keys_are_none(key: str) -> None:
    assert path_of_key(key) is None


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://user@h/data/upload/1/x",
            "http://h\\@e/data/upload/1/x",
            "http://h%2f/data/upload/1/x",
        ),
        *("ftp://h/data/upload/1/x", "http:///data/upload/1/x", "http://h:x/data/upload/1/x"),
        "http://h:0/data/upload/1/x",
    ],
)
def test_hosts_that_programs_read_differently_are_not_taken_for_label_studio(url: str) -> None:
    assert studio_url(url, STUDIO) is None


def test_loopback_at_another_port_or_scheme_is_another_server() -> None:
    for url in ("http://localhost:81/data/a.png", "https://localhost:80/data/a.png"):
        assert studio_url(url, "http://127.0.0.1:80") is None
    found = studio_url("http://localhost/data/a.png", "http://127.0.0.1:80")
    assert found is not None
    assert (found.url, found.foreign_host) == ("http://127.0.0.1:80/data/a.png", "")


@pytest.mark.parametrize(
    "part", ["/data/upload/1/x", "/tasks/1/resolve", "/a", "/data/local-files/"]
)
def test_locating_a_long_address_takes_calls_independent_of_its_parts(part: str) -> None:
    client = ImageLocator(STUDIO, None, max_image_bytes=1, connect_timeout_s=1, timeout_s=1)
    addresses = [f"http://h{part * parts}?" for parts in (20, 200_000)]
    few, many = (count_calls(partial(client.locate, address, 7)) for address in addresses)
    assert many < 2 * few
