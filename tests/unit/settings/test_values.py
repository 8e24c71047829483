"""Values of the environment and the YAML as people write them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from prelabel.cli.preflight import PreflightError, preflight
from prelabel.errors import ImageAddressError, SettingsError
from prelabel.images.fetch import FetchLimits, ImageFetcher
from prelabel.net.allowed_hosts import AllowedHosts
from prelabel.net.origin import Origin
from prelabel.settings import AppSettings, Environment, ImageSettings, read_environment
from tests.support.http_server import Network, serve
from tests.support.paths import ROOT

LIMITS = FetchLimits(max_bytes=1000, connect_timeout_s=5, total_timeout_s=10)
HOSTS = [
    ("", ()),
    (" , ;", ()),
    ("minio", ("minio",)),
    ("Minio:9000,", ("minio:9000",)),
    ("\"http://minio:9000/\", 'cdn.local' ; a b", ("minio:9000", "cdn.local", "a", "b")),
    ('"a, b"', ("a", "b")),
    ('["a", "b:1"]', ("a", "b:1")),
    ("https://cdn.local/pictures/?x=1#y", ("cdn.local",)),
    ("cdn.local.", ("cdn.local",)),
    ("cdn.local/", ("cdn.local",)),
    ("10.0.0.5:8000\n10.0.0.6", ("10.0.0.5:8000", "10.0.0.6")),
    ("[fd00::1]:9000 [fd00::1] fd00:0::1", ("[fd00::1]:9000", "[fd00::1]")),
    ("http://[FD00::1]/", ("[fd00::1]",)),
    ("*.example.com .example.org:81", ("*.example.com", "*.example.org:81")),
    ("*.internal", ("*.internal",)),
    ("10.0.0.0/8, fd00::/8, 10.1.2.3/8", ("10.0.0.0/8", "fd00::/8")),
    ("bücher.example", ("xn--bcher-kva.example",)),
    ("under_score", ("under_score",)),
]
NO_HOSTS = ["*", "*.com", "http://", "a:port", "a:99999", "ftp://a", "user:canary@a", "10.0.0.0/40"]
NO_HOSTS += [
    "http://user:canary@minio/",
    "a*b",
    "*a.example.com",
    "[fd00::1",
    "fd00::g",
    "-a",
    "a..b",
]


@pytest.mark.parametrize(("text", "hosts"), HOSTS)
def test_hosts_are_read_in_either_place(text: str, hosts: tuple[str, ...]) -> None:
    environment = Environment.model_validate({"ALLOWED_IMAGE_HOSTS": text})
    assert environment.override(AppSettings()).images.allowed_hosts == hosts
    settings = ImageSettings.model_validate({"allowed_hosts": text})
    assert settings.allowed_hosts == hosts
    listed = ImageSettings.model_validate({"allowed_hosts": list(hosts)})
    assert listed.allowed_hosts == hosts
    assert ImageSettings.model_validate(settings.model_dump()) == settings


@pytest.mark.parametrize("text", NO_HOSTS)
def test_what_is_no_host_is_refused_with_the_right_form(text: str) -> None:
    for model, name in ((Environment, "ALLOWED_IMAGE_HOSTS"), (ImageSettings, "allowed_hosts")):
        with pytest.raises(ValidationError) as caught:
            model.model_validate({name: f"fine.example, {text}"})
        [error] = caught.value.errors(include_input=False)
        assert error["msg"].startswith(f"Value error, {name} has ")
        assert "Write host, host:port, *.example.com or 10.0.0.0/8" in error["msg"]
        assert "canary" not in error["msg"]


@pytest.mark.parametrize(
    ("entry", "url", "is_allowed"),
    [
        ("minio", "http://minio:9000/", True),
        ("minio", "http://minio./", True),
        ("minio:9000", "http://MINIO:9000/", True),
        ("minio:9000", "http://minio/", False),
        ("*.example.com", "http://a.b.example.com/", True),
        ("*.example.com", "http://example.com/", False),
        ("*.example.com", "http://notexample.com/", False),
        ("*.example.com:81", "http://a.example.com:81/", True),
        ("*.example.com:81", "http://a.example.com/", False),
        ("[fd00::1]", "http://[fd00:0:0::1]:81/", True),
        ("[fd00::1]:81", "http://[fd00::1]:81/", True),
        ("[fd00::1]:81", "http://[fd00::1]/", False),
        ("10.0.0.0/8", "http://10.0.0.5/", False),  # that is told by its address
    ],
)
def test_hosts_are_compared_by_their_meaning(entry: str, url: str, is_allowed: bool) -> None:
    assert AllowedHosts.of([entry]).has(Origin.of(url)) == is_allowed


@pytest.mark.parametrize(
    ("address", "is_allowed"),
    [
        ("10.0.0.5", True),
        ("11.0.0.5", False),
        ("fd12::1", True),
        ("::ffff:10.0.0.5", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("fd00:ec2::254", False),
        ("fe80::1", False),
        ("::1", False),
        ("no address", False),
    ],
)
def test_an_allowed_network_opens_neither_loopback_nor_metadata(
    address: str, is_allowed: bool
) -> None:
    for entries in (["10.0.0.0/8", "fd00::/8"], ["0.0.0.0/0", "::/0"]):
        wide = entries[0] == "0.0.0.0/0" and address in ("11.0.0.5",)
        assert AllowedHosts.of(entries).has_address(address) == (is_allowed or wide)


def test_a_network_allows_its_addresses_and_no_odd_port_or_spelling() -> None:
    network = Network({"minio.lan": [("10.0.0.5",)], "other.lan": [("10.0.0.5",), ("172.16.0.1",)]})
    with serve(lambda exchange, _: exchange.answer(200, b"picture")) as server:
        network.behind["10.0.0.5"] = server.port
        fetcher = ImageFetcher(
            LIMITS,
            allowed_hosts=("10.0.0.0/8",),
            resolve=network.resolve,
            connect=network.connect,
        )
        for url in ("http://10.0.0.5/", "http://minio.lan:9000/", "http://other.lan/"):
            assert fetcher.fetch(url) == b"picture"
        for url in ("http://10.0.0.5:22/", "http://167772165/", "http://other.lan/"):
            with pytest.raises(ImageAddressError):
                fetcher.fetch(url)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ('"http://ls:8080"', "http://ls:8080"),
        (" 'ls:8080/' ", "http://ls:8080"),
        ("http://ls:8080/projects/3/data?tab=4", "http://ls:8080"),
        ("https://ls.example/projects/", "https://ls.example"),
        ("https://ls.example/user/login/?next=/projects/", "https://ls.example"),
        ("https://ls.example/user/account", "https://ls.example"),
        ("https://h/label-studio/projects/3/settings/ml", "https://h/label-studio"),
        ("https://h/label-studio/", "https://h/label-studio"),
        ("https://h/projects/label-studio", "https://h/projects/label-studio"),
        ("https://h/users", "https://h/users"),
        ("''", None),
        ("  ", None),
    ],
)
def test_label_studio_s_address_may_be_the_browser_s(text: str, url: str | None) -> None:
    assert Environment.model_validate({"LABEL_STUDIO_HOST": text}).label_studio_url == url


@pytest.mark.parametrize(
    "text", ["http://ls/?token=canary", "http://canary@ls", "ftp://ls", "http://", "http://l s"]
)
def test_other_addresses_are_refused_without_repeating_them(text: str) -> None:
    with pytest.raises(
        ValidationError, match="LABEL_STUDIO_HOST is not an address such as"
    ) as caught:
        Environment.model_validate({"LABEL_STUDIO_HOST": text})
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("canary", "canary"),
        ('"canary"\n', "canary"),
        ("Token canary", "canary"),
        ("bearer  canary", "canary"),
        ("'Authorization: Token canary'", "canary"),
        ("tokencanary", "tokencanary"),
        ('""', None),
        (" \n", None),
    ],
)
def test_a_token_is_taken_out_of_what_was_copied(text: str, token: str | None) -> None:
    found = Environment.model_validate({"LABEL_STUDIO_ACCESS_TOKEN": text}).label_studio_token
    assert (found.get_secret_value() if found else None) == token


@pytest.mark.parametrize(
    "text", ["can ary", "can\nary", "canaryé", "Token a canary", "can\u200bary"]
)
def test_what_is_no_token_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValidationError, match="Copy only the token") as caught:
        Environment.model_validate({"LABEL_STUDIO_ACCESS_TOKEN": text})
    shown = str(caught.value)
    assert not any(secret in shown for secret in ("canary", "ary"))


@pytest.mark.parametrize(
    ("text", "threshold"),
    [
        *(("0.3", 0.3), ('"0.3"', 0.3), ("0,3", 0.3), ("30%", 0.3), ("30 %", 0.3), ("2,5%", 0.025)),
        *((" 0 ", 0.0), ("1", 1.0), ("100%", 1.0), ("", None), ('""', None), ("  ", None)),
    ],
)
def test_thresholds_are_shares(text: str, threshold: float | None) -> None:
    for name in ("BOX_THRESHOLD", "TEXT_THRESHOLD"):
        environment = Environment.model_validate({name: text})
        assert getattr(environment, name.lower()) == pytest.approx(threshold)


@pytest.mark.parametrize("text", ["30", "-0.1", "high", "101%", "nan", "inf", "1e999", "0.3.1"])
def test_what_is_no_share_is_refused_with_the_right_form(text: str) -> None:
    with pytest.raises(ValidationError, match=r"BOX_THRESHOLD is .*Write it as 0\.3 or 30%"):
        Environment.model_validate({"BOX_THRESHOLD": text})


@pytest.mark.parametrize(
    ("text", "level"),
    [("debug", "DEBUG"), ("warn", "WARNING"), ("'Info'", "INFO"), (" ERROR ", "ERROR")],
)
def test_log_levels_are_words_of_any_case(text: str, level: str) -> None:
    environment = Environment.model_validate({"LOG_LEVEL": text})
    assert environment.override(AppSettings()).log_level == level
    assert AppSettings.model_validate({"log_level": text}).log_level == level


def test_an_empty_log_level_is_unset() -> None:
    for text in ("", "''", "  "):
        environment = Environment.model_validate({"LOG_LEVEL": text})
        assert environment.override(AppSettings(log_level="ERROR")).log_level == "ERROR"


@pytest.mark.parametrize(
    ("variables", "segmenter"),
    [
        ({}, "demo-segmenter"),
        ({"USE_SAM": "true", "SAM_CHECKPOINT": "sam_vit_b.pth"}, "demo-segmenter"),
        ({"USE_SAM": "false"}, ""),
        ({"USE_SAM": "false", "USE_MOBILE_SAM": "True"}, "demo-segmenter"),
        ({"USE_SAM": "", "USE_MOBILE_SAM": "0"}, ""),
    ],
)
def test_humansignal_s_switches_of_masks(variables: dict[str, str], segmenter: str) -> None:
    settings = Environment.model_validate(variables).override(AppSettings())
    assert settings.segmenter_name == segmenter


def test_masks_that_no_segmenter_draws_are_refused_with_the_segmenter_to_set() -> None:
    real = AppSettings.model_validate({"model": {"name": "grounding-dino-swin-t"}})
    assert real.segmenter_name == ""
    variables = {"USE_MOBILE_SAM": "true", "MOBILESAM_CHECKPOINT": "mobile_sam.pt"}
    with pytest.raises(SettingsError, match=r"for mobile_sam\.pt: sam-vit-base, or slimsam-77"):
        Environment.model_validate(variables).override(real)
    chosen = AppSettings.model_validate({"model": {"segmenter": "slimsam-77"}})
    assert Environment.model_validate(variables).override(chosen).segmenter_name == "slimsam-77"


WRONG = [
    ("BOX_THRESHOLD", "30", "BOX_THRESHOLD is '30'"),
    ("LOG_LEVEL", "loud", "LOG_LEVEL is 'loud', which is not a log level. Set it to DEBUG or INFO"),
    ("ALLOWED_IMAGE_HOSTS", "*", "ALLOWED_IMAGE_HOSTS has '*'"),
    ("LABEL_STUDIO_HOST", "ftp://ls", "LABEL_STUDIO_HOST is not an address such as"),
    ("LABEL_STUDIO_ACCESS_TOKEN", "a canary", "LABEL_STUDIO_ACCESS_TOKEN has a space"),
    ("HTTPS_PROXY", "socks5://u:canary@h", "HTTPS_PROXY names a proxy"),
    ("VERIFY_SSL", "false", "VERIFY_SSL would switch off"),
    ("USE_SAM", "maybe", "USE_SAM is 'maybe'. Set it to true or false"),
]


@pytest.mark.parametrize(("name", "value", "sentence"), WRONG)
def test_a_wrong_variable_is_one_sentence_at_start(
    name: str, value: str, sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        read_environment()
    said = str(caught.value)
    assert said.startswith(sentence)
    assert said.endswith(".")
    assert not any(word in said for word in ("canary", "Value error", "pydantic", ".."))
    config = tmp_path / "config.yaml"
    config.write_text("applications: [{name: prelabel, import_path: serve_app:build_app}]")
    with pytest.raises(SettingsError) as other:
        preflight(config)
    assert str(other.value) == said


def test_a_wrong_host_in_the_yaml_says_where(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("applications: [{args: {images: {allowed_hosts: ['*']}}}]")
    with pytest.raises(PreflightError) as caught:
        preflight(config)
    assert "allowed_hosts has '*', which is not a host. Write host" in str(caught.value)
    assert "Value error" not in str(caught.value)


@pytest.mark.slow
def test_build_app_says_the_same(tmp_path: Path) -> None:
    """In a process of its own, because it imports Ray; it ends before Ray would be started."""
    program = """
from prelabel.errors import SettingsError
from prelabel.settings import AppSettings
from serve_app import build_app
try:
    build_app(AppSettings())
except SettingsError as error:
    print("said:", error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=ROOT,
        env=os.environ | {"SSL_CERT_FILE": f"{tmp_path}/missing.pem"},
    )
    assert done.stdout.startswith("said: SSL_CERT_FILE is "), done.stderr
