"""Downloads against a small hub of our own on loopback, each in a process that can be killed."""

from __future__ import annotations

import hashlib
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from prelabel.checkpoints.cards import (
    LOCK_NAME,
    load_card,
    load_segmenter_card,
    read_lock,
    sha256_of,
    verify,
)
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

PRELABEL = Path(sys.executable).with_name("prelabel")
COMMIT = "c0ffee" + "0" * 34
TABLE = b'{"a":{"dtype":"U8","shape":[24000000],"data_offsets":[0,24000000]}}'
WEIGHTS = len(TABLE).to_bytes(8, "little") + TABLE + random.Random(0).randbytes(24_000_000)
CONFIG = b'{"model_type": "grounding-dino"}\n'
WEIGHTS_SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
CONFIG_GIT_SHA1 = hashlib.sha1(b"blob %d\0" % len(CONFIG) + CONFIG).hexdigest()
STALL_AT = 16_000_000  # the hub's client writes 10 MiB at a time
_LARGE = re.compile(r"/someone/tiny/resolve/(?:main|" + COMMIT + r")/model\.safetensors")
_SMALL = re.compile(r"/someone/tiny/resolve/(?:main|" + COMMIT + r")/config\.json")


@dataclass
class Hub:
    """The state of the server, and the requests that it received."""

    weights: bytes = WEIGHTS
    stall: bool = False
    asked: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    sent: int = 0
    port: int = 0
    stalled: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)


def answer_as(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, *, with_body: bool) -> None:
            hub.asked.append(f"{self.command} {self.path}")
            if self.path == "/cdn/weights":
                self.send_weights(with_body)
            elif _LARGE.fullmatch(self.path):
                self.start(
                    302,
                    {
                        # Another host name, as the real hub's: large files come from elsewhere.
                        "Location": f"http://localhost:{hub.port}/cdn/weights",
                        "X-Linked-Etag": f'"{WEIGHTS_SHA256}"',
                        "X-Linked-Size": str(len(WEIGHTS)),
                    },
                )
            elif _SMALL.fullmatch(self.path):
                length = str(len(CONFIG))
                self.start(200, {"ETag": f'"{CONFIG_GIT_SHA1}"', "Content-Length": length})
                if with_body:
                    self.wfile.write(CONFIG)
            else:
                known = self.path.startswith("/someone/tiny/")
                known_revision = "/main/" in self.path or COMMIT in self.path
                missing = "EntryNotFound" if known_revision else "RevisionNotFound"
                self.start(404, {"X-Error-Code": missing if known else "RepoNotFound"})

        def start(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in ({"X-Repo-Commit": COMMIT, "Content-Length": "0"} | headers).items():
                self.send_header(name, value)
            self.end_headers()

        def send_weights(self, with_body: bool) -> None:
            asked_range = self.headers.get("Range", "")
            first = int(asked_range.removeprefix("bytes=").rstrip("-") or 0)
            if asked_range:
                hub.ranges.append(asked_range)
            total = len(hub.weights)
            length = {"Content-Length": str(total - first), "Accept-Ranges": "bytes"}
            if asked_range:
                length["Content-Range"] = f"bytes {first}-{total - 1}/{total}"
            self.start(206 if asked_range else 200, length)
            if with_body:
                self.send_body(hub.weights[first : STALL_AT if hub.stall else total])

        def send_body(self, body: bytes) -> None:
            self.wfile.write(body)
            self.wfile.flush()
            hub.sent += len(body)
            if hub.stall:
                hub.stalled.set()
                hub.closing.wait()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    return Answer


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    with ThreadingHTTPServer(("127.0.0.1", 0), answer_as(hub)) as server:
        hub.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield hub
        hub.closing.set()
        server.shutdown()
        thread.join()


def write_card(
    folder: Path, *, source: str = "someone/tiny", sha256: str = WEIGHTS_SHA256, revision: str = ""
) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(
        f"name: tiny\ntitle: t\nengine: huggingface\nsource: {source}\n"
        f"revision: {revision or 'null'}\n"
        f"files:\n  - {{path: model.safetensors, sha256: {sha256}}}\n  - path: config.json\n"
        "weights: model.safetensors\nimage_size: {shortest_edge: 112, longest_edge: 224}\n"
        "licence: none\n"
    )
    return path


def write_segmenter_card(folder: Path) -> Path:
    path = write_card(folder)
    text = path.read_text().replace("engine: huggingface", "engine: segment_anything")
    path.write_text(text.replace("image_size: {shortest_edge: 112, longest_edge: 224}\n", ""))
    return path


def start(hub: Hub, card: Path, models: Path, **environment: str) -> subprocess.Popen[str]:
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": str(models.parent),
        "PYTHONPATH": str(ROOT),  # this checkout, wherever the command was installed from
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.port}",
    }
    return subprocess.Popen(
        [PRELABEL, "download", str(card), "--models-dir", str(models)],
        env=variables | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(hub: Hub, card: Path, models: Path, **environment: str) -> tuple[int, str, str]:
    process = start(hub, card, models, **environment)
    stdout, stderr = process.communicate(timeout=60)
    return process.returncode, stdout.strip(), stderr


def test_a_segmenter_is_downloaded_like_a_detector(hub: Hub, tmp_path: Path) -> None:
    card, models = write_segmenter_card(tmp_path), tmp_path / "models"
    status, said, stderr = run(hub, card, models)
    assert status == 0, stderr
    assert f"set `model: {{segmenter: {card}}}`" in said
    verify(load_segmenter_card(str(card)), models / "tiny")


def test_download_is_whole_verified_and_locked(hub: Hub, tmp_path: Path) -> None:
    card, models = write_card(tmp_path), tmp_path / "models"
    status, said, stderr = run(hub, card, models)
    assert status == 0, stderr
    assert f"is in {models / 'tiny'}." in said
    shown = [line for line in stderr.splitlines() if line.startswith("model.safetensors: ")]
    assert shown == [
        "model.safetensors: 0 bytes of 24.0 MB",
        "model.safetensors: 24.0 MB of 24.0 MB",
    ]
    assert {path.name for path in (models / "tiny").iterdir()} == {
        "model.safetensors",
        "config.json",
        LOCK_NAME,
    }
    assert list(models.iterdir()) == [models / "tiny"]
    verify(load_card(str(card)), models / "tiny")
    lock = read_lock(models / "tiny")
    assert lock is not None
    assert lock.revision == COMMIT
    assert lock.files["config.json"].sha256 == hashlib.sha256(CONFIG).hexdigest()


def test_a_second_download_sends_no_request(hub: Hub, tmp_path: Path) -> None:
    card, models = write_card(tmp_path), tmp_path / "models"
    run(hub, card, models)
    hub.asked.clear()
    status, _, stderr = run(hub, card, models, HF_HUB_OFFLINE="1")
    assert (status, hub.asked) == (0, []), stderr


def test_killed_download_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    card, models = write_card(tmp_path), tmp_path / "models"
    hub.stall = True
    with start(hub, card, models) as process:
        try:
            assert hub.stalled.wait(30)
            (part,) = wait_for_part(models)
        finally:
            process.kill()
    kept = part.stat().st_size
    assert not (models / "tiny").exists()

    hub.stall, hub.sent = False, 0
    status, _, stderr = run(hub, card, models)
    assert status == 0, stderr
    assert hub.ranges == [f"bytes={kept}-"]
    assert hub.sent == len(WEIGHTS) - kept
    assert sha256_of(models / "tiny" / "model.safetensors") == WEIGHTS_SHA256


def wait_for_part(models: Path) -> list[Path]:
    """The partial file, once something of it is on the disk."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        parts = [path for path in models.glob(".tiny.part/*.part") if path.stat().st_size]
        if parts:
            return parts
        time.sleep(0.05)
    raise AssertionError("nothing was written before the kill")


@pytest.mark.parametrize("sha256", ["a" * 64, "null"])
def test_wrong_content_is_refused_removed_and_can_be_retried(
    hub: Hub, tmp_path: Path, sha256: str
) -> None:
    """By the card's hash, and without one by the hub's."""
    card, models = write_card(tmp_path, sha256=sha256), tmp_path / "models"
    hub.weights = WEIGHTS[:-1] + bytes([WEIGHTS[-1] ^ 1])
    status, _, stderr = run(hub, card, models)
    assert status == 1
    assert "prelabel: model.safetensors of tiny is not the file on record" in stderr
    assert not (models / "tiny").exists()
    assert not [path for path in models.rglob("*") if path.is_file()]

    hub.weights = WEIGHTS
    assert run(hub, write_card(tmp_path), models)[0] == 0


@pytest.mark.parametrize(
    ("source", "revision", "sentence"),
    [
        ("someone/unknown", "", "no repository someone/unknown"),
        ("someone/tiny", "f" * 40, "no revision ffff"),
    ],
)
def test_what_the_hub_does_not_have_is_a_sentence(
    hub: Hub, tmp_path: Path, source: str, revision: str, sentence: str
) -> None:
    card = write_card(tmp_path, source=source, revision=revision)
    status, _, stderr = run(hub, card, tmp_path / "models")
    assert status == 1
    assert f"prelabel: {'The hub has ' if 'unknown' in source else ''}" in stderr
    assert sentence in stderr
    assert "Traceback" not in stderr


def test_offline_switch_is_obeyed_without_a_single_request(hub: Hub, tmp_path: Path) -> None:
    status, _, stderr = run(hub, write_card(tmp_path), tmp_path / "models", HF_HUB_OFFLINE="1")
    assert status == 1
    assert "prelabel: HF_HUB_OFFLINE forbids downloading tiny." in stderr
    assert hub.asked == []


def test_unreachable_hub_is_a_sentence(hub: Hub, tmp_path: Path) -> None:
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    status, _, stderr = run(hub, write_card(tmp_path), tmp_path / "models", **nowhere)
    assert status == 1
    assert "prelabel: The hub cannot be reached for tiny." in stderr
    assert "Traceback" not in stderr


def test_damaged_installation_is_replaced(hub: Hub, tmp_path: Path) -> None:
    card, models = write_card(tmp_path), tmp_path / "models"
    run(hub, card, models)
    (models / "tiny" / "model.safetensors").write_bytes(b"damaged")
    assert run(hub, card, models)[0] == 0
    verify(load_card(str(card)), models / "tiny")
    assert list(models.iterdir()) == [models / "tiny"]


def test_files_without_a_hash_are_fetched_again(hub: Hub, tmp_path: Path) -> None:
    card, models = write_card(tmp_path, sha256="null"), tmp_path / "models"
    folder = models / "tiny"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"anything")
    (folder / "config.json").write_bytes(b"{}")
    assert run(hub, card, models)[0] == 0
    assert sha256_of(folder / "model.safetensors") == WEIGHTS_SHA256


def test_card_with_another_commit_is_fetched_again(hub: Hub, tmp_path: Path) -> None:
    models = tmp_path / "models"
    run(hub, write_card(tmp_path), models)
    status, _, stderr = run(hub, write_card(tmp_path, revision="f" * 40), models)
    assert status == 1
    assert "no revision ffff" in stderr
