import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prelabel.cli.preflight import PreflightError, preflight
from prelabel.errors import ModelError, SettingsError
from tests.support.own_cards import write_own_card

Write = Callable[[str], Path]

GOOD = """
http_options: {{host: 127.0.0.1, port: {port}}}
applications:
  - {{name: prelabel, import_path: serve_app:build_app, args: {{{args}}}}}
"""


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield int(server.getsockname()[1])


@pytest.fixture
def free(taken: int) -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def _write(text: str) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return path

    return _write


def test_a_good_config_on_a_free_port_passes(write: Write, free: int) -> None:
    preflight(write(GOOD.format(port=free, args="model: {name: demo}")))


def test_a_model_without_its_tokenizer_is_refused(write: Write, free: int, tmp_path: Path) -> None:
    files = [{"path": "model.safetensors"}, {"path": "config.json"}]
    card = write_own_card(tmp_path, text_encoder="checkpoint", files=files)
    config = write(GOOD.format(port=free, args=f"model: {{name: {card}}}"))
    preflight(config)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"no tokenizer.json. Write `text_encoder: bert-base"):
        preflight(config)


@pytest.mark.parametrize("name", ["FALLBACK_PROXY_HTTP", "HAPROXY_METRICS", "HAPROXY_STATS"])
def test_a_port_that_haproxy_wants_is_named(
    write: Write, free: int, taken: int, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    variable = f"RAY_SERVE_{name}_PORT"
    for other in ("FALLBACK_PROXY_HTTP", "HAPROXY_METRICS", "HAPROXY_STATS"):
        monkeypatch.setenv(f"RAY_SERVE_{other}_PORT", "0")  # any
    monkeypatch.setenv(variable, str(taken))
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "0")
    preflight(write(GOOD.format(port=free, args="")))
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "1")
    with pytest.raises(PreflightError, match=rf"Port {taken} .* {variable}"):
        preflight(write(GOOD.format(port=free, args="")))


def test_a_taken_port_is_named(write: Write, taken: int) -> None:
    with pytest.raises(PreflightError, match=f"Port {taken} on 127.0.0.1 is in use"):
        preflight(write(GOOD.format(port=taken, args="")))


def test_a_model_that_is_not_there_names_the_command_that_fetches_it(
    write: Write, free: int, tmp_path: Path
) -> None:
    args = f"model: {{name: llmdet-tiny, folder: {tmp_path}}}"
    with pytest.raises(ModelError, match="prelabel download llmdet-tiny"):
        preflight(write(GOOD.format(port=free, args=args)))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "not valid YAML"),
        ("applications: []", "applications"),
        ("5", "wrong at"),
        (GOOD.format(port=9090, args="detection: {box_treshold: 0.5}"), "box_treshold"),
        (GOOD.format(port=9090, args="detection: {box_threshold: 5}"), "box_threshold"),
    ],
)
def test_a_wrong_config_says_where(write: Write, text: str, sentence: str) -> None:
    with pytest.raises(PreflightError, match=sentence):
        preflight(write(text))


def test_a_flat_name_is_refused_with_its_new_place(write: Write) -> None:
    with pytest.raises(PreflightError) as refused:
        preflight(write(GOOD.format(port=9090, args="box_threshold: 0.3")))
    assert str(refused.value).endswith(
        "config.yaml is wrong at applications.0.args: box_threshold is now "
        "detection.box_threshold. Write it under args: detection: {box_threshold: 0.3}."
    )


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=r"no file .*nowhere\.yaml"):
        preflight(tmp_path / "nowhere.yaml")


def test_a_wrong_variable_is_named(
    write: Write, free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOX_THRESHOLD", "high")
    with pytest.raises(SettingsError, match="BOX_THRESHOLD"):
        preflight(write(GOOD.format(port=free, args="")))


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("/proc/nope/prompts.sqlite", "No such file or directory"),
        ("{folder}", "unable to open database file"),
        ("{folder}/text/prompts.sqlite", "exists"),
        ("{folder}/text", "file is not a database"),
        ("/dev/full", "full"),
    ],
)
def test_a_prompts_file_that_cannot_be_used_is_named(
    write: Write, free: int, tmp_path: Path, place: str, reason: str
) -> None:
    (tmp_path / "text").write_text("no base at all\n" * 100)
    file = place.format(folder=tmp_path)
    with pytest.raises(PreflightError) as refused:
        preflight(write(GOOD.format(port=free, args=f"prompts: {{file: {file}}}")))
    sentence = str(refused.value)
    assert sentence.startswith(f"prompts.file is {file}, which cannot be used (")
    assert reason in sentence
    for cure in ("set prompts.file to", "prompts.remember to false", "PROMPTS_REDIS_URL"):
        assert cure in sentence
    preflight(write(GOOD.format(port=free, args=f"prompts: {{remember: false, file: {file}}}")))


def test_with_redis_the_prompts_file_does_not_count(
    write: Write, free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write(GOOD.format(port=free, args="prompts: {file: /proc/nope/prompts.sqlite}"))
    monkeypatch.setenv("PROMPTS_REDIS_URL", "redis://127.0.0.1:9/0")
    preflight(config)
    monkeypatch.setenv("PROMPTS_REDIS_URL", "rediss//wrong")
    with pytest.raises(PreflightError, match="Check PROMPTS_REDIS_URL"):
        preflight(config)
