from typing import Any

import pytest
from pydantic import ValidationError

from prelabel.settings.application import AppSettings, Environment

NAMES = [
    str(name)
    for field in Environment.model_fields.values()
    for name in getattr(field.validation_alias, "choices", [field.validation_alias])
]


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def test_every_setting_is_described() -> None:
    for model in (AppSettings, Environment):
        for name, field in model.model_fields.items():
            assert field.description, name


@pytest.mark.parametrize(
    "args", [{"box_treshold": 0.3}, {"box_threshold": 1.5}, {"device": "tpu"}, {"max_boxes": 0}]
)
def test_wrong_names_and_values_are_refused(args: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AppSettings.model_validate(args)


def test_without_variables_the_settings_stay() -> None:
    settings = AppSettings(box_threshold=0.4)
    assert Environment().override(settings) == settings


def test_zero_in_the_environment_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOX_THRESHOLD", "0")
    assert Environment().override(AppSettings(box_threshold=0.4)).box_threshold == 0


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOX_THRESHOLD", "")
    assert Environment().override(AppSettings(box_threshold=0.4)).box_threshold == 0.4


def test_hosts_are_split_and_log_levels_upper_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOWED_IMAGE_HOSTS", " Media.local, 10.0.0.5:8000,")
    monkeypatch.setenv("LOG_LEVEL", "debug")
    settings = Environment().override(AppSettings())
    assert settings.allowed_image_hosts == ("media.local", "10.0.0.5:8000")
    assert settings.log_level == "DEBUG"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BOX_THRESHOLD", "high"),
        ("LOG_LEVEL", "high"),
        ("LABEL_STUDIO_HOST", "ftp://ls"),
        ("LABEL_STUDIO_HOST", "http://user:canary@ls"),
        ("LABEL_STUDIO_HOST", "http://ls/?token=canary"),
        ("LABEL_STUDIO_HOST", "http://ls#canary"),
    ],
)
def test_a_wrong_variable_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as caught:
        Environment().override(AppSettings())
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "url"),
    [
        (("LABEL_STUDIO_HOST", "LABEL_STUDIO_ACCESS_TOKEN"), "http://ls:8080"),
        (("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"), "ls:8080/"),
    ],
)
def test_both_pairs_of_names_reach_label_studio(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, str], url: str
) -> None:
    monkeypatch.setenv(names[0], url)
    monkeypatch.setenv(names[1], "a-token")
    environment = Environment()
    assert environment.label_studio_url == "http://ls:8080"
    assert environment.label_studio_token is not None
    assert environment.label_studio_token.get_secret_value() == "a-token"


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_ACCESS_TOKEN", "canary-token")
    monkeypatch.setenv("BASIC_AUTH_PASS", "canary-pass")
    shown = f"{Environment()!r} {Environment()} {Environment().model_dump_json()}"
    assert "canary" not in shown
