from __future__ import annotations

import base64
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr

from prelabel.errors import ImageAddressError, ImageError, ImageFetchError
from prelabel.images.fetch import FetchLimits, ImageFetcher
from prelabel.labelstudio.image_locator import (
    ImageLocator,
    ImageRequest,
)
from prelabel.labelstudio.tokens import expiry_of, is_personal
from tests.support.http_server import Exchange, LocalServer, Received, serve
from tests.support.tokens import jwt

STUDIO = "http://studio.example:8080"
LEGACY = "0123456789abcdef0123456789abcdef01234567"


PERSONAL = jwt(token_type="refresh", exp=8_000_000_000, iat=1, jti="SECRET")


def client(
    url: str | None = STUDIO, token: str | None = LEGACY, *, max_image_bytes: int = 1000
) -> ImageLocator:
    return ImageLocator(
        url,
        None if token is None else SecretStr(token),
        max_image_bytes=max_image_bytes,
        connect_timeout_s=2,
        timeout_s=2,
    )


def locate(address: str, url: str | None = STUDIO) -> ImageRequest:
    found = client(url).locate(address, 7)
    assert isinstance(found, ImageRequest)
    return found


# Where pictures are -----------------------------------------------------------------------------


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize(
    ("studio", "address", "url"),
    [
        (STUDIO, "/data/upload/1/a.jpg", f"{STUDIO}/data/upload/1/a.jpg"),
        (STUDIO, "/data/local-files/?d=a/b.jpg", f"{STUDIO}/data/local-files/?d=a/b.jpg"),
        (STUDIO, "/data/local-files/?d=../b.jpg", f"{STUDIO}/data/local-files/?d=../b.jpg"),
        (STUDIO, " /data/upload/1/a b.jpg\n", f"{STUDIO}/data/upload/1/a b.jpg"),
        (STUDIO, "/tasks/7/resolve/?fileuri=czM", f"{STUDIO}/tasks/7/resolve/?fileuri=czM"),
        (STUDIO, f"{STUDIO}/data/upload/1/a.jpg", f"{STUDIO}/data/upload/1/a.jpg"),
        ("http://h", "http://H:80/data/a", "http://H:80/data/a"),
        ("https://h", "https://h:443/data/a", "https://h:443/data/a"),
        ("http://h/ls", "/data/upload/1/a.jpg", "http://h/ls/data/upload/1/a.jpg"),
        ("http://h/ls", "/ls/data/upload/1/a.jpg", "http://h/ls/data/upload/1/a.jpg"),
        ("http://h/ls", "http://h/ls/data/a.jpg", "http://h/ls/data/a.jpg"),
    ],
)
def test_label_studios_own_pictures_are_asked_for_with_its_token(
    studio: str, address: str, url: str, slash: str
) -> None:
    request = locate(address, studio + slash)
    assert request.url == url
    assert request.credentials is not None
    assert request.credentials.authorization() == f"Token {LEGACY}"


@pytest.mark.parametrize(
    ("studio", "address"),
    [
        (STUDIO, "http://pictures.example/a.jpg"),
        (STUDIO, "https://studio.example:8080/data/a.jpg"),
        (STUDIO, "http://studio.example/data/a.jpg"),
        (STUDIO, "http://studio.example:8081/data/a.jpg"),
        (STUDIO, "http://studio.example:8080.evil.example/data/a.jpg"),
        (STUDIO, "http://studio.example:8080@evil.example/data/a.jpg"),
        (STUDIO, "http://studio.example:99999/data/a.jpg"),
        (STUDIO, "http://[studio.example:8080/data/a.jpg"),
        ("http://h/ls", "http://h/other/a.jpg"),
        ("http://h/ls", "http://h/ls-evil/a.jpg"),
        ("http://h/ls", "http://h/ls/../other/a.jpg"),
        ("http://h/ls", "http://h/ls/%2e%2e/other/a.jpg"),
        ("http://h/ls", "http://h/ls/..\\other/a.jpg"),
        ("http://h/ls", "http://h/ls/data/../api/users"),
        ("http://h/ls", "http://h/ls/data/%2e%2e/api/users"),
        ("http://h/ls", "http://h/ls/data/..\\api/users"),
        (STUDIO, "http://studio.example:8080/data/../api/users"),
        (STUDIO, "http://studio.example:8080/tasks/%252e%252e/api/users"),
        (None, "http://pictures.example/a.jpg"),
    ],
)
def test_other_pictures_are_asked_for_without_token(studio: str | None, address: str) -> None:
    assert locate(address, studio) == ImageRequest(address, None)


@pytest.mark.parametrize(
    "uri", ["s3://bucket/my cats/ünï.jpg", "gs://b/k?>~.jpg", "azure-blob://c/k", "S3://b/k"]
)
def test_cloud_pictures_are_presigned_by_label_studio(uri: str) -> None:
    request = locate(uri, "http://h/ls/")
    parts = urlsplit(request.url)
    assert (parts.netloc, parts.path) == ("h", "/ls/tasks/7/presign/")
    (encoded,) = parse_qs(parts.query)["fileuri"]
    assert base64.urlsafe_b64decode(encoded).decode() == uri
    assert request.credentials is not None


def test_cloud_picture_of_a_task_without_id_is_an_error() -> None:
    with pytest.raises(ImageFetchError, match="save the task first"):
        client().locate("s3://bucket/key", None)
    assert isinstance(client().locate("s3://bucket/key", 0), ImageRequest)


@pytest.mark.parametrize("address", ["/data/upload/1/a.jpg", "s3://bucket/a.jpg"])
def test_without_label_studios_address_both_variables_are_named(address: str) -> None:
    with pytest.raises(ImageFetchError, match="set LABEL_STUDIO_HOST and LABEL_STUDIO_ACCESS_TO"):
        locate(address, None)


def test_without_a_token_label_studio_is_asked_all_the_same() -> None:
    found = client(token=None).locate("/data/upload/1/a.jpg", 7)
    assert found == ImageRequest(f"{STUDIO}/data/upload/1/a.jpg", None)


@pytest.mark.parametrize(
    "address",
    [
        *("", "a.jpg", "cats/a.jpg", "./a.jpg", "C:\\cats\\a.jpg", "/etc/passwd", "/", "/evil/a"),
        *("/data", "/datax/a.jpg", "/data/../api/users", "/data/%2e%2e/api", "/data/..\\api"),
        *("/api/users", "/logout", "\\\\evil\\a.jpg", "/data/%2E./a", "/tasks/../api"),
        *("file:///etc/passwd", "FILE:/etc/passwd", "ftp://h/a.jpg", "gopher://h", "jar:http://h"),
        *("javascript:1", "blob:http://h/1", "about:blank", "s3a://b/k", "httpx://h/"),
        *("data:image/png,AAAA", "data:text/html;base64,AAAA", "data:", "data:image/png;base64"),
        *("data:;base64,AAAA", "data:image/png;base64,!!!!", "data:image/png;base64,A"),
    ],
)
def test_other_values_are_no_addresses(address: str) -> None:
    with pytest.raises(ImageAddressError) as caught:
        client().locate(address, 7)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "payload", ["//79/A==", "__79_A", "//79/A", "//79\n /A==", "%2F%2F79%2FA%3D%3D"]
)
def test_inline_pictures_are_decoded_as_browsers_do(payload: str) -> None:
    for head in ("data:image/png;base64,", "DATA:image/jpeg;name=a;BASE64,"):
        assert client().locate(head + payload, None) == b"\xff\xfe\xfd\xfc"


def test_inline_pictures_over_the_limit_are_refused() -> None:
    inline = "data:image/png;base64," + base64.b64encode(b"x" * 100).decode()
    assert client(max_image_bytes=100).locate(inline, 7) == b"x" * 100
    with pytest.raises(ImageFetchError, match="larger than 99 bytes"):
        client(max_image_bytes=99).locate(inline, 7)


# Personal access tokens -------------------------------------------------------------------------


@dataclass
class Studio:
    """Label Studio's tokens and files, as far as they are needed here."""

    lifetime_s: int = 300
    pause_s: float = 0.0
    status: int = 200
    body: bytes | None = None
    location: str | None = None
    given: list[str] = field(default_factory=list)
    revoked: set[str] = field(default_factory=set)

    def respond(self, exchange: Exchange, received: Received) -> None:
        if received.path.endswith("/api/token/refresh/"):
            self.refresh(exchange, received)
        elif received.headers.get("Authorization") in self.valid():
            exchange.answer(200, b"picture")
        else:
            exchange.answer(401)

    def valid(self) -> set[str]:
        return {f"Bearer {token}" for token in self.given if token not in self.revoked}

    def refresh(self, exchange: Exchange, received: Received) -> None:
        time.sleep(self.pause_s)
        if self.location is not None:
            exchange.answer(302, Location=self.location)
        elif json.loads(received.body) != {"refresh": PERSONAL} or self.status != 200:
            exchange.answer(max(self.status, 401), b'{"detail": "SERVER TEXT"}')
        else:
            token = jwt(token_type="access", iat=5, exp=5 + self.lifetime_s, n=len(self.given))
            self.given.append(token)
            exchange.answer(200, self.body or json.dumps({"access": token}).encode())


@contextmanager
def running(studio: Studio) -> Iterator[LocalServer]:
    with serve(studio.respond) as server:
        yield server


def fetch(server: LocalServer, studio: ImageLocator) -> bytes:
    found = studio.locate("/data/upload/1/a.jpg", 7)
    assert isinstance(found, ImageRequest)
    limits = FetchLimits(max_bytes=1000, connect_timeout_s=2, total_timeout_s=5)
    fetcher = ImageFetcher(limits, trusted_url=server.url)
    return fetcher.fetch(found.url, found.credentials)


def authorization(studio: ImageLocator, refused: str | None = None) -> str:
    found = studio.locate("/data/a", 7)
    assert isinstance(found, ImageRequest)
    assert found.credentials is not None
    return found.credentials.authorization(refused)


def test_personal_access_token_is_exchanged_and_kept() -> None:
    studio = Studio()
    with running(studio) as server:
        sdk = client(f"{server.url}/prefix", f"{PERSONAL}\n")
        assert server.received == []
        assert authorization(sdk) == authorization(sdk) == f"Bearer {studio.given[0]}"
        assert [(r.method, r.path) for r in server.received] == [
            ("POST", "/prefix/api/token/refresh/")
        ]


def test_picture_is_fetched_with_the_access_token_and_never_with_the_personal_one() -> None:
    with running(Studio()) as server:
        assert fetch(server, client(server.url, PERSONAL)) == b"picture"
        assert PERSONAL not in str([received.headers for received in server.received])


def test_a_revoked_access_token_is_replaced_once() -> None:
    studio = Studio()
    with running(studio) as server:
        sdk = client(server.url, PERSONAL)
        authorization(sdk)
        studio.revoked.update(studio.given)
        assert fetch(server, sdk) == b"picture"
        assert len(studio.given) == 2


def test_an_access_token_that_comes_byte_by_byte_is_not_waited_for() -> None:
    """Each byte would restart a read's time-out, and all fetches wait for the one token request."""
    over = threading.Event()

    def dribble(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while not over.wait(0.05):
                connection.sendall(b"X-A: b\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=dribble, args=(listener,))
        server.start()
        sdk = ImageLocator(
            f"http://127.0.0.1:{listener.getsockname()[1]}",
            SecretStr(PERSONAL),
            max_image_bytes=1000,
            connect_timeout_s=0.2,
            timeout_s=0.3,
        )
        try:
            with pytest.raises(ImageFetchError, match="did not give an access token within"):
                authorization(sdk)
            assert server.is_alive()  # it was still sending headers
        finally:
            over.set()
            server.join()


def test_access_token_is_renewed_before_it_ends() -> None:
    studio = Studio(lifetime_s=1)
    with running(studio) as server:
        sdk = client(server.url, PERSONAL)
        first = authorization(sdk)
        assert authorization(sdk) == first
        time.sleep(0.6)
        assert authorization(sdk) != first


def test_access_token_of_no_lifetime_is_asked_for_each_time() -> None:
    studio = Studio(lifetime_s=0)
    with running(studio) as server:
        sdk = client(server.url, PERSONAL)
        assert authorization(sdk) != authorization(sdk)


def test_access_token_that_cannot_be_read_is_used_and_kept() -> None:
    with running(Studio(body=b'{"access": "opaque"}')) as server:
        sdk = client(server.url, PERSONAL)
        assert authorization(sdk) == authorization(sdk) == "Bearer opaque"
        assert len(server.received) == 1


@pytest.mark.parametrize("round_", ["first", "after a refusal"])
def test_eight_threads_refresh_once(round_: str) -> None:
    studio = Studio(pause_s=0.1)
    start = threading.Barrier(8)
    with running(studio) as server, ThreadPoolExecutor(8) as pool:
        sdk = client(server.url, PERSONAL)
        refused = None if round_ == "first" else authorization(sdk)
        before = len(studio.given)

        def ask(_: int) -> str:
            start.wait()
            return authorization(sdk, refused)

        assert len(set(pool.map(ask, range(8)))) == 1
        assert len(studio.given) == before + 1


def test_waiting_threads_share_a_refusal() -> None:
    studio = Studio(status=401, pause_s=0.1)
    with running(studio) as server, ThreadPoolExecutor(8) as pool:
        sdk = client(server.url, PERSONAL)
        asked = [pool.submit(authorization, sdk) for _ in range(8)]
        assert all(isinstance(ask.exception(), ImageFetchError) for ask in asked)
        assert len(server.received) == 1


@pytest.mark.parametrize(
    ("studio", "sentence"),
    [
        (Studio(status=401), r"refuses the token \(HTTP 401\); check LABEL_STUDIO_ACCESS_TOKEN"),
        (Studio(status=403), r"refuses the token \(HTTP 403\); check LABEL_STUDIO_ACCESS_TOKEN"),
        (Studio(status=404), r"no access token \(HTTP 404\); check LABEL_STUDIO_HOST"),
        (Studio(status=500), r"no access token \(HTTP 500\)"),
        (Studio(body=b"<html>SERVER TEXT"), "check that it is Label Studio's address"),
        (Studio(body=b'{"token": "SERVER TEXT"}'), "check that it is Label Studio's address"),
        (Studio(body=b'{"access": "a\\r\\nX: y"}'), "check that it is Label Studio's address"),
        (Studio(body=b'{"access": "' + b"a" * 100_000 + b'"}'), "gives no access token"),
    ],
)
def test_failed_refreshes_say_what_to_check(studio: Studio, sentence: str) -> None:
    with running(studio) as server, pytest.raises(ImageFetchError, match=sentence) as caught:
        authorization(client(server.url, PERSONAL))
    assert "SERVER" not in str(caught.value)


@pytest.mark.parametrize(
    ("token", "personal", "ends"),
    [
        (jwt(iat=1, exp=1_700_000_000), True, datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        (f" {jwt(iat=1, exp=0)}\n", True, datetime(1970, 1, 1, tzinfo=UTC)),
        (jwt(iat=1, exp=10**15), True, None),
        (jwt(exp="soon"), True, None),
        ("eyJh.bm8.c2ln", True, None),
        (LEGACY, False, None),
    ],
)
def test_a_token_s_kind_and_its_end_are_read_from_itself(
    token: str, personal: bool, ends: datetime | None
) -> None:
    assert is_personal(SecretStr(token)) is personal
    assert expiry_of(SecretStr(token)) == ends


def test_unreachable_label_studio_is_named() -> None:
    with pytest.raises(ImageFetchError, match="check LABEL_STUDIO_HOST"):
        authorization(client("http://127.0.0.1:1", PERSONAL))


def test_personal_access_token_is_not_sent_along_a_redirect() -> None:
    with serve(lambda exchange, _: exchange.answer(200)) as thief:
        with (
            running(Studio(location=thief.url)) as server,
            pytest.raises(ImageFetchError, match="redirects"),
        ):
            authorization(client(server.url, PERSONAL))
        assert thief.received == []


def test_tokens_are_in_no_log_error_or_repr(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    texts = []
    for token in (PERSONAL, LEGACY):
        with running(Studio(status=401)) as server:
            sdk = client(server.url, token)
            with pytest.raises(ImageError) as caught:
                fetch(server, sdk)
            texts += [str(caught.value), repr(sdk), repr(sdk.locate("/data/a", 7)), caplog.text]
    assert not any(secret in text for text in texts for secret in (PERSONAL, LEGACY))
