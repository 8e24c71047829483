"""Proxy variables: the proxy for each origin."""

from __future__ import annotations

import base64

import pytest
from pydantic import ValidationError

from prelabel.net.origin import Origin
from prelabel.net.proxies import Proxies, Proxy
from prelabel.settings import Environment


def proxies(no_proxy: str) -> Proxies:
    url = "http://proxy.example:3128"
    return Proxies.of({"HTTP_PROXY": url, "HTTPS_PROXY": url}, no_proxy)


@pytest.mark.parametrize(
    ("no_proxy", "url", "is_direct"),
    [
        ("", "http://h.example/", False),
        ("*", "http://h.example/", True),
        ("a.example, *", "https://h.example/", True),
        ("example", "http://h.example/", True),
        (".example", "http://h.example/", True),
        ("*.example", "http://h.example/", True),
        ("H.EXAMPLE", "http://h.example/", True),
        ("h.example.", "http://h.example./", True),
        ("example", "http://hexample/", False),
        ("ample", "http://h.example/", False),
        ("other.example h.example", "http://h.example/", True),
        ("h.example:80", "http://h.example/", True),
        ("h.example:80", "https://h.example/", False),
        ("h.example:8080", "http://h.example:8080/", True),
        ("10.0.0.0/8", "http://10.1.2.3/", True),
        ("10.0.0.0/8", "http://11.1.2.3/", False),
        ("10.0.0.5", "http://10.0.0.5:81/", True),
        ("10.0.0.5:81", "http://10.0.0.5:81/", True),
        ("10.0.0.5:81", "http://10.0.0.5/", False),
        ("fd00::/8", "http://[fd00::1]/", True),
        ("[fd00::1]", "http://[fd00::1]:81/", True),
        ("[fd00::1]:81", "http://[fd00::1]:81/", True),
        ("'h.example'", "http://h.example/", True),
        (",, ;", "http://h.example/", False),
        ("", "http://localhost:8080/", True),
        ("", "http://127.0.0.1/", True),
        ("", "http://127.8.8.8/", True),
        ("", "http://[::1]/", True),
        ("", "http://a.localhost/", True),
        ("", "http://localhost.example/", False),
    ],
)
def test_no_proxy_is_read_as_curl_and_requests_read_it(
    no_proxy: str, url: str, is_direct: bool
) -> None:
    proxy = proxies(no_proxy).for_origin(Origin.of(url))
    assert (proxy is None) == is_direct


@pytest.mark.parametrize(
    ("variables", "http", "https"),
    [
        ({"http_proxy": "http://a:1"}, "a:1", None),
        ({"HTTP_PROXY": "http://a:1", "HTTPS_PROXY": "http://b:2"}, "a:1", "b:2"),
        ({"http_proxy": "http://a:1", "HTTP_PROXY": "http://b:2"}, "a:1", None),
        ({"http_proxy": "", "HTTP_PROXY": "http://b:2"}, "b:2", None),
        ({"all_proxy": "a:1"}, "a:1", "a:1"),
        ({"ALL_PROXY": "a:1", "https_proxy": "b"}, "a:1", "b:80"),
        ({"HTTPS_PROXY": ' "http://a:1/" '}, None, "a:1"),
        ({"http_proxy": "http://[fd00::1]:3128"}, "[fd00::1]:3128", None),
        ({"http_proxy": "http://a:1", "no_proxy": "*"}, None, None),
        ({"ALL_PROXY": "socks5://a:1", "http_proxy": "b:2", "https_proxy": "b:2"}, "b:2", "b:2"),
        ({"ALL_PROXY": "socks5://a:1", "NO_PROXY": "*"}, None, None),
    ],
)
def test_variables_of_either_case_are_read(
    variables: dict[str, str],
    http: str | None,
    https: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = Environment().proxies

    def place(proxy: Proxy | None) -> str | None:
        return None if proxy is None else str(Origin("http", proxy.host, proxy.port))

    assert (place(found.http), place(found.https)) == (http, https)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        (
            "http_proxy",
            "socks5://user:canary@a:1",
            "HTTP_PROXY .* scheme socks5.*http://",
        ),
        (
            "HTTPS_PROXY",
            "https://user:canary@a:1",
            "HTTPS_PROXY names a proxy .* scheme https",
        ),
        ("ALL_PROXY", "http://user:canary@", "ALL_PROXY is not the address of a proxy"),
        ("http_proxy", "http://user:can@ary@a:port", "HTTP_PROXY is not the address of a proxy"),
        ("http_proxy", "http://a b:1", "HTTP_PROXY is not the address of a proxy"),
    ],
)
def test_a_proxy_that_cannot_be_asked_is_refused_without_its_password(
    name: str, value: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=sentence) as caught:
        Environment()
    assert "canary" not in str(caught.value)


def test_the_environment_does_not_show_a_proxy_s_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://user:canary@a:1")
    shown = f"{Environment()!r} {Environment()} {Environment().model_dump_json()}"
    secret = base64.b64encode(b"user:canary").decode()
    assert "canary" not in shown
    assert secret not in f"{Environment().proxies!r}"
