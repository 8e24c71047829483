from typing import Any, Never

import pytest
import yaml
from pydantic import ValidationError
from ray.serve._private.api import call_user_app_builder_with_args_if_necessary

from prelabel.settings import AppSettings, Environment
from prelabel.settings.fields import iterate_settings
from prelabel.settings.flat_names import GROUPED_NAMES

NAMES = [
    str(name)
    for field in Environment.model_fields.values()
    for name in getattr(field.validation_alias, "choices", [field.validation_alias])
]


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def refusal(args: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        AppSettings.model_validate(args)
    return str(caught.value.errors()[0]["ctx"]["error"])


def test_every_setting_is_described_and_says_if_it_changes_predictions() -> None:
    settings = list(iterate_settings(AppSettings()))
    assert len(settings) == 48
    for setting in settings:
        assert setting.field.description, setting.path
        assert setting.changes_predictions is not None, setting.path


def test_every_variable_is_described() -> None:
    for name, field in Environment.model_fields.items():
        assert field.description, name


@pytest.mark.parametrize(
    "args",
    [
        {"detection": {"box_treshold": 0.3}},
        {"detection": {"box_threshold": 1.5}},
        {"detection": {"max_boxes": 0}},
        {"detections": {}},
        {"model": {"device": "tpu"}},
        {"model": {"models_dir": "models"}},
        {"model": 5},
        {"cache": None},
    ],
)
def test_wrong_names_and_values_are_refused(args: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AppSettings.model_validate(args)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        AppSettings().detection.box_threshold = 0.5  # type: ignore[misc]


def test_every_flat_name_has_a_new_place() -> None:
    paths = {setting.path for setting in iterate_settings(AppSettings())}
    never_flat = {path for path in paths if path.startswith(("masks.", "review."))}
    never_flat |= {
        "log_level",
        "release",
        "model.segmenter",
        "cache.encoding_bytes",
        "limits.max_answer_bytes",
        "playground.enabled",
    }
    assert set(GROUPED_NAMES.values()) | never_flat == paths
    assert len(GROUPED_NAMES) == 32


@pytest.mark.parametrize(("name", "path"), list(GROUPED_NAMES.items())[1:])
def test_a_flat_name_is_refused_with_its_new_place(name: str, path: str) -> None:
    group, field = path.split(".")
    [value] = [s.value for s in iterate_settings(AppSettings()) if s.path == path]
    value = list(value) if isinstance(value, tuple) else value  # as YAML has it
    sentence = refusal({name: value})
    assert sentence.startswith(f"{name} is now {path}. Write it under args: {group}: {{{field}: ")
    written = sentence.partition("under args: ")[2].removesuffix(".")
    assert AppSettings.model_validate(yaml.safe_load(written)) == AppSettings()


def test_the_sentence_shows_the_value_in_its_new_place() -> None:
    assert refusal({"box_threshold": 0.3}) == (
        "box_threshold is now detection.box_threshold. "
        "Write it under args: detection: {box_threshold: 0.3}."
    )
    assert refusal({"model": "demo"}) == "model is a group now; write model: {name: demo}."


def test_several_flat_names_are_refused_together() -> None:
    args = {"model": "demo", "box_threshold": 0.3, "allowed_image_hosts": ["a.example"]}
    assert refusal(args | {"device": "cpu", "log_level": "INFO"}) == (
        "model, device, box_threshold and allowed_image_hosts are in groups now. Write them under "
        "args: model: {name: demo, device: cpu}, detection: {box_threshold: 0.3}, "
        "images: {allowed_hosts: [a.example]}."
    )
    mixed = refusal({"model": {"name": "demo"}, "models_dir": "/models"})
    assert mixed == "models_dir is now model.folder. Write it under args: model: {folder: /models}."


def test_serve_shows_the_sentence_when_it_builds_the_application() -> None:
    """With Serve's own function, which `serve run` and `serve deploy` end in."""

    def build(settings: AppSettings) -> Never:
        raise AssertionError(settings)

    with pytest.raises(ValidationError, match=r"box_threshold is now detection\.box_threshold"):
        call_user_app_builder_with_args_if_necessary(
            build,  # type: ignore[arg-type]
            {"box_threshold": 0.3},
        )


def test_without_variables_the_settings_stay() -> None:
    settings = AppSettings(detection={"box_threshold": 0.4})
    assert Environment().override(settings) == settings


def test_zero_in_the_environment_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOX_THRESHOLD", "0")
    settings = AppSettings(detection={"box_threshold": 0.4})
    assert Environment().override(settings).detection.box_threshold == 0


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOX_THRESHOLD", "")
    settings = AppSettings(detection={"box_threshold": 0.4})
    assert Environment().override(settings).detection.box_threshold == 0.4


def test_hosts_are_split_and_log_levels_upper_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOWED_IMAGE_HOSTS", " Media.local, 10.0.0.5:8000,")
    monkeypatch.setenv("LOG_LEVEL", "debug")
    settings = Environment().override(AppSettings())
    assert settings.images.allowed_hosts == ("media.local", "10.0.0.5:8000")
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
