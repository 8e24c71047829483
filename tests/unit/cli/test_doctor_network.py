"""The doctor's findings about proxies and CAs, here and where the service runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from prelabel.cli.doctor import Finding, Status, examine
from prelabel.cli.doctor_checks import DoctorContext
from prelabel.settings import Environment
from tests.support.certificate_authority import Authority
from tests.support.fake_label_studio import LabelStudio
from tests.support.forward_proxy import ForwardProxy, proxying
from tests.support.http_server import serve
from tests.support.local_service import LocalService
from tests.support.local_service import running as service_running

REAL = "grounding-dino-swin-t"
PRELABEL = Path(sys.executable).with_name("prelabel")
DEAD = "http://user:canary@127.0.0.1:9"


def findings(url: str, environment: Environment) -> dict[str, Finding]:
    return {f.check: f for f in examine(DoctorContext(url, url, None, environment))}


@contextmanager
def service(**variables: str) -> Iterator[str]:
    with service_running(LocalService(Environment.model_validate(variables), model=REAL)) as url:
        yield url


def here(url: str, token: str, **more: str) -> Environment:
    """A shell with the variables of a Label Studio."""
    given = {"LABEL_STUDIO_HOST": url, "LABEL_STUDIO_ACCESS_TOKEN": token, **more}
    return Environment.model_validate(given)


@pytest.fixture
def studio() -> LabelStudio:
    return LabelStudio()


@pytest.fixture
def proxy(studio: LabelStudio) -> Iterator[ForwardProxy]:
    """The only proxy that reaches http://studio.example."""
    proxy = ForwardProxy()
    with serve(studio.respond) as server, proxying(proxy):
        proxy.behind["studio.example:80"] = server.port
        yield proxy


def test_a_proxy_that_answers_is_named(studio: LabelStudio, proxy: ForwardProxy) -> None:
    with_password = proxy.url.replace("//", "//user:canary@")
    with service(HTTP_PROXY=proxy.url) as url:
        shell = here("http://studio.example", studio.token, http_proxy=with_password)
        found = findings(url, shell)
    assert found["proxy"].status is Status.OK
    place = proxy.url.removeprefix("http://")
    assert f"through the proxy {place} (HTTP_PROXY), which answers" in found["proxy"].sentence
    assert "The service has one, too." in found["proxy"].sentence
    assert {found[check].status for check in ("Label Studio", "token")} == {Status.OK}
    assert "canary" not in str(found)


def test_a_service_without_the_proxy_is_a_warning(studio: LabelStudio, proxy: ForwardProxy) -> None:
    with service() as url:
        shell = here("http://studio.example", studio.token, http_proxy=proxy.url)
        found = findings(url, shell)["proxy"]
    assert found.status is Status.WARNING
    assert "The service has no proxy." in found.sentence
    assert found.sentence.endswith("start it again.")


def test_a_proxy_that_does_not_answer_is_a_fault_with_its_variable(studio: LabelStudio) -> None:
    with service() as url:
        found = findings(url, here("http://studio.example", studio.token, HTTP_PROXY=DEAD))
    assert found["proxy"].status is Status.FAULT
    assert "127.0.0.1:9 (HTTP_PROXY) cannot be reached" in found["proxy"].sentence
    assert {found[check].status for check in ("Label Studio", "token")} == {Status.SKIPPED}
    assert "canary" not in str(found)


def test_loopback_needs_no_proxy(studio: LabelStudio) -> None:
    with serve(studio.respond) as server, service() as url:
        found = findings(url, here(server.url, studio.token, HTTP_PROXY=DEAD))
    assert found["proxy"].status is Status.OK
    assert "directly: it is on loopback, or NO_PROXY names it" in found["proxy"].sentence
    assert found["token"].status is Status.OK


def test_a_proxy_of_the_service_alone_is_said(proxy: ForwardProxy) -> None:
    with service(HTTPS_PROXY=proxy.url) as url:
        found = findings(url, Environment())
    assert found["proxy"].status is Status.OK
    assert found["proxy"].sentence == "This shell has no proxy. The service has one."


def test_health_says_whether_there_is_a_proxy_and_never_which() -> None:
    told = Environment.model_validate({"HTTPS_PROXY": DEAD})
    answer = LocalService(told).ask("GET", "/health")
    network = {"http_proxy": False, "https_proxy": True, "own_ca": False}
    assert answer.json()["network"] == network
    assert not any(word in answer.text for word in ("canary", "127.0.0.1:9"))


def test_a_ca_is_named_and_missed_on_the_other_side(tmp_path: Path) -> None:
    path = str(Authority(tmp_path).path)
    own = Environment.model_validate({"SSL_CERT_FILE": path})
    with service() as without, service(REQUESTS_CA_BUNDLE=path) as having:
        assert "certificates" not in findings(without, Environment())
        both, mine, its = (
            findings(having, own)["certificates"],
            findings(without, own)["certificates"],
            findings(having, Environment())["certificates"],
        )
    assert [f.status for f in (both, mine, its)] == [Status.OK, Status.WARNING, Status.OK]
    assert f"SSL_CERT_FILE ({path})" in both.sentence
    assert "The service has none. If a CA" in mine.sentence
    assert "none of its own. The service has some" in its.sentence


def test_an_unknown_issuer_is_a_fault_that_names_the_variable(
    studio: LabelStudio, tmp_path: Path
) -> None:
    tls = Authority(tmp_path).server("127.0.0.1")
    with serve(studio.respond, tls) as server, service() as url:
        shell = here(f"https://127.0.0.1:{server.port}", studio.token)
        found = findings(url, shell)["Label Studio"]
    assert found.status is Status.FAULT
    assert "set SSL_CERT_FILE to a file" in found.sentence


@pytest.mark.slow
def test_the_command_names_the_proxy_and_asks_loopback_directly(studio: LabelStudio) -> None:
    with service() as url:
        done = subprocess.run(
            [PRELABEL, "doctor", "--url", url],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=os.environ
            | {
                "http_proxy": DEAD,
                "LABEL_STUDIO_HOST": "http://studio.example",
                "LABEL_STUDIO_ACCESS_TOKEN": studio.token,
            },
        )
    said = " ".join(done.stdout.split())
    assert "ok service prelabel" in said
    assert "fault proxy The proxy 127.0.0.1:9 (HTTP_PROXY) cannot be reached" in said
    assert "canary" not in done.stdout + done.stderr
