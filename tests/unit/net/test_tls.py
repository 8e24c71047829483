"""A company's own CA, at a real TLS server on loopback."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from pydantic import SecretStr, ValidationError

from prelabel.cli.service_client import ServiceClient, ServiceError
from prelabel.errors import ImageFetchError, LabelStudioError, SettingsError
from prelabel.images.fetch import FetchLimits, ImageFetcher
from prelabel.labelstudio.image_locator import ImageLocator, ImageRequest
from prelabel.labelstudio.rest import LabelStudioAPI
from prelabel.net.egress import Egress
from prelabel.net.tls import TrustError
from prelabel.settings import Environment, read_environment
from tests.support.certificate_authority import Authority
from tests.support.fake_label_studio import ACCESS, LEGACY, LabelStudio
from tests.support.http_server import Exchange, LocalServer, Received, serve
from tests.support.paths import ROOT

LIMITS = FetchLimits(max_bytes=1000, connect_timeout_s=5, total_timeout_s=10)
HEALTH = {
    "service_version": "1",
    "model_version": "m",
    "model": {"name": "demo", "title": "Demo"},
}
PRELABEL = Path(sys.executable).with_name("prelabel")


Place = Callable[[Authority, Path], str]


def in_a_file(authority: Authority, _: Path) -> str:
    return str(authority.path)


def quoted(authority: Authority, _: Path) -> str:
    return f'"{authority.path}" '


def as_der(authority: Authority, folder: Path) -> str:
    path = folder / "ca.cer"
    path.write_bytes(authority.certificate.public_bytes(serialization.Encoding.DER))
    return str(path)


def beside_another(authority: Authority, folder: Path) -> str:
    (folder / "another").mkdir()
    path = folder / "both.pem"
    other = Authority(folder / "another").path.read_text()
    path.write_text(f"# The company's\n{other}\n{authority.path.read_text()}")
    return str(path)


def in_a_folder(authority: Authority, folder: Path) -> str:
    (folder / "certs").mkdir()
    shutil.copy(authority.path, folder / "certs" / "ca.crt")
    return str(folder / "certs")


def in_a_hashed_folder(authority: Authority, folder: Path) -> str:
    """As `openssl rehash` leaves it."""
    (folder / "hashed").mkdir()
    command = ["openssl", "x509", "-noout", "-hash", "-in", str(authority.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    shutil.copy(authority.path, folder / "hashed" / f"{done.stdout.strip()}.0")
    return str(folder / "hashed")


def among_folders(authority: Authority, folder: Path) -> str:
    return f"{folder}/missing{os.pathsep}{in_a_folder(authority, folder)}"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def respond(exchange: Exchange, received: Received) -> None:
    if received.path == "/health":
        exchange.answer(200, json.dumps(HEALTH).encode())
    elif received.path.startswith("/api/"):
        LabelStudio(takes_legacy=True).respond(exchange, received)
    else:
        exchange.answer(200, b"picture")


def fetched(server: LocalServer, egress: Egress, url: str | None = None) -> bytes:
    url = url or f"https://127.0.0.1:{server.port}/"
    return ImageFetcher(LIMITS, trusted_url=url, tls=egress.tls).fetch(url)


@pytest.mark.parametrize(
    ("variable", "place"),
    [
        *((variable, in_a_file) for variable in ("SSL_CERT_FILE", "CURL_CA_BUNDLE")),
        *(("REQUESTS_CA_BUNDLE", place) for place in (in_a_file, in_a_folder)),
        *(("SSL_CERT_FILE", place) for place in (quoted, as_der, beside_another)),
        *(("SSL_CERT_DIR", p) for p in (in_a_folder, in_a_hashed_folder, among_folders)),
    ],
)
def test_the_company_s_ca_is_believed_everywhere(
    variable: str, place: Place, authority: Authority, tmp_path: Path
) -> None:
    environment = Environment.model_validate({variable: place(authority, tmp_path)})
    egress = Egress.of(environment)
    token = LabelStudio().token
    with serve(respond, authority.server("127.0.0.1")) as server:
        url = f"https://127.0.0.1:{server.port}"
        assert fetched(server, egress) == b"picture"
        assert ServiceClient(url, None, egress).health().service_version == "1"
        assert LabelStudioAPI(url, SecretStr(LEGACY), egress).project(3).title == "Cats"
        client = ImageLocator(
            url,
            SecretStr(token),
            max_image_bytes=1,
            connect_timeout_s=2,
            timeout_s=2,
            egress=egress,
        )
        found = client.locate("/data/upload/1/a.png", 7)
        assert isinstance(found, ImageRequest)
        assert found.credentials is not None
        assert found.credentials.authorization() == f"Bearer {ACCESS}"


def test_usual_certificates_are_believed_beside_it(authority: Authority) -> None:
    """certifi's and the system's, which a test cannot be signed by."""
    before = Egress.plain().tls.cert_store_stats()["x509_ca"]
    own = Egress.of(Environment.model_validate({"SSL_CERT_FILE": str(authority.path)}))
    assert before > 100
    assert own.tls.cert_store_stats()["x509_ca"] == before + 1


def test_the_system_s_store_is_believed(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = ssl.get_default_verify_paths()
    folder = in_a_hashed_folder(authority, tmp_path)
    with serve(respond, authority.server("127.0.0.1")) as server:
        for changed in ({"openssl_cafile": str(authority.path)}, {"openssl_capath": folder}):
            monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
            with pytest.raises(ImageFetchError):
                fetched(server, Egress.plain())
            known = paths._replace(**changed)
            monkeypatch.setattr(ssl, "get_default_verify_paths", lambda known=known: known)
            assert fetched(server, Egress.plain()) == b"picture"


def sentences(url: str, server: LocalServer, egress: Egress) -> list[str]:
    """Yield the error of each client."""
    said = []
    with pytest.raises(ImageFetchError) as picture:
        fetched(server, egress, url)
    said.append(str(picture.value))
    with pytest.raises(ServiceError) as service:
        ServiceClient(url, None, egress).health()
    said.append(str(service.value))
    with pytest.raises(LabelStudioError) as studio:
        LabelStudioAPI(url, SecretStr(LEGACY), egress).project(3)
    said.append(str(studio.value))
    with pytest.raises(ImageFetchError) as token:
        LabelStudioAPI(url, SecretStr(LabelStudio().token), egress).project(3)
    said.append(str(token.value))
    return said


def test_an_unknown_issuer_names_the_variable(authority: Authority) -> None:
    with serve(respond, authority.server("127.0.0.1")) as server:
        for said in sentences(f"https://127.0.0.1:{server.port}", server, Egress.plain()):
            assert "issuer is not trusted here" in said
            assert "set SSL_CERT_FILE" in said
            assert said.endswith(".")


@pytest.mark.parametrize(
    ("names", "begins", "ends", "sentence"),
    [
        (("127.0.0.1",), -3, -1, "has expired"),
        (("127.0.0.1",), 1, 3, "not valid yet"),
        (("other.example",), -1, 1, "certificate for another name"),
        (("10.0.0.1",), -1, 1, "certificate for another name"),
    ],
)
def test_other_faults_of_a_certificate_are_told_apart(
    names: tuple[str, ...], begins: int, ends: int, sentence: str, authority: Authority
) -> None:
    egress = Egress.of(Environment.model_validate({"SSL_CERT_FILE": str(authority.path)}))
    with serve(respond, authority.server(*names, begins=begins, ends=ends)) as server:
        for said in sentences(f"https://127.0.0.1:{server.port}", server, egress):
            assert sentence in said
            assert "SSL_CERT_FILE" not in said


def test_a_server_without_tls_is_told_apart(authority: Authority) -> None:
    with serve(respond) as server:
        for said in sentences(f"https://127.0.0.1:{server.port}", server, Egress.plain()):
            assert "does not speak https" in said


@pytest.mark.parametrize(
    "variable", ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"]
)
@pytest.mark.parametrize("content", [None, "", "no certificate", "folder"])
def test_what_cannot_be_read_is_refused_at_start_by_its_variable(
    variable: str, content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ca"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_text(content)
    monkeypatch.setenv(variable, str(path))
    with pytest.raises(TrustError, match=rf"{variable} is {path}, .*Set it to a f"):
        Egress.of(Environment())
    with pytest.raises(SettingsError, match=f"^{variable} is "):
        read_environment()


def test_invalid_certificates_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        with pytest.raises(TrustError, match="holds no certificate"):
            Egress.of(Environment.model_validate({variable: str(broken)}))


@pytest.mark.parametrize("value", ["false", "0", "False", "no", '"off"', "maybe"])
def test_verification_cannot_be_switched_off(value: str) -> None:
    with pytest.raises(ValidationError, match=r"VERIFY_SSL .*set SSL_CERT_FILE"):
        Environment.model_validate({"VERIFY_SSL": value})


@pytest.mark.parametrize("value", ["true", "1", "True", "yes", "'on'", " ", ""])
def test_verification_may_be_switched_on(value: str) -> None:
    Environment.model_validate({"VERIFY_SSL": value})


@pytest.mark.slow
def test_the_commands_refuse_it_in_a_sentence(tmp_path: Path) -> None:
    given = {"SSL_CERT_FILE": f"{tmp_path}/missing.pem"}, {"VERIFY_SSL": "false"}
    for variables in given:
        done = subprocess.run(
            [PRELABEL, "preflight", ROOT / "serve_config.yaml"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=os.environ | variables,
        )
        assert done.returncode == 1
        assert done.stderr.startswith(f"prelabel: {next(iter(variables))} ")
        assert "SSL_CERT_FILE" in done.stderr
