"""LABEL_STUDIO_ACCESS_TOKEN_FILE: a token in a file, which may appear or change later."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from prelabel.cli.connect import ConnectError, label_studio_access
from prelabel.errors import ImageFetchError, SettingsError
from prelabel.labelstudio.image_locator import ImageLocator, ImageRequest
from prelabel.net.origin import Credentials
from prelabel.settings import Environment
from tests.support.local_service import LocalService

URL = "http://127.0.0.1:8080"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOST", "ACCESS_TOKEN", "ACCESS_TOKEN_FILE"):
        monkeypatch.delenv(f"LABEL_STUDIO_{name}", raising=False)


def environment(file: Path, **variables: str) -> Environment:
    given = {"LABEL_STUDIO_HOST": URL, "LABEL_STUDIO_ACCESS_TOKEN_FILE": str(file)}
    return Environment.model_validate({**given, **variables})


def credentials(chosen: Environment) -> Credentials:
    locator = ImageLocator(
        chosen.label_studio_url,
        chosen.label_studio_secret,
        max_image_bytes=1,
        connect_timeout_s=1,
        timeout_s=1,
    )
    located = locator.locate("/data/upload/1/a.png", 1)
    assert isinstance(located, ImageRequest)
    assert located.credentials is not None
    return located.credentials


def has_token(chosen: Environment) -> bool:
    label_studio = LocalService(chosen).ask("GET", "/health").json()["label_studio"]
    return bool(label_studio["access_token"])


def test_the_file_may_appear_and_change_while_the_service_runs(tmp_path: Path) -> None:
    file = tmp_path / "token"
    chosen = environment(file)
    found = credentials(chosen)
    assert not has_token(chosen)
    with pytest.raises(ImageFetchError, match=r"set LABEL_STUDIO_ACCESS_TOKEN\. There is none in"):
        found.authorization()
    for token in ("a" * 40, "b" * 40):
        file.write_text(f"{token}\n")
        assert found.authorization() == f"Token {token}"
        assert has_token(chosen)


def test_the_commands_read_the_file_too(tmp_path: Path) -> None:
    file = tmp_path / "token"
    with pytest.raises(ConnectError, match="This shell has no LABEL_STUDIO_ACCESS_TOKEN"):
        label_studio_access(environment(file))
    file.write_text("Token abc\n")
    assert label_studio_access(environment(file)) == (URL, SecretStr("abc"))


def test_the_variable_has_precedence(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from-file")
    chosen = environment(file, LABEL_STUDIO_ACCESS_TOKEN="from-variable")
    assert credentials(chosen).authorization() == "Token from-variable"


@pytest.mark.parametrize(
    ("text", "sentence"), [("two words", "has a space, a line break"), (None, "cannot be read")]
)
def test_a_file_without_a_token_is_named(tmp_path: Path, text: str | None, sentence: str) -> None:
    file = tmp_path / "token"
    if text is None:
        file.mkdir()
    else:
        file.write_text(text)
    chosen = environment(file)
    for read in (chosen.current_label_studio_token, credentials(chosen).authorization):
        with pytest.raises((SettingsError, ImageFetchError), match=sentence) as caught:
            read()
        assert str(file) in str(caught.value)
    assert not has_token(chosen)
