"""`prelabel serve`, as `make serve` and the image start it: its start, and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from tests.support.paths import ROOT
from tests.support.processes import end_leftovers, free_port
from tests.support.scenes import encoded, scene
from tests.support.serve_process import environment, shipped_config

PRELABEL = Path(sys.executable).with_name("prelabel")
START_S = 180
STOP_S = 60


@pytest.fixture
def folder() -> Iterator[Path]:
    """Folder of a Ray: sockets need short paths, and its processes name it in their environment."""
    with tempfile.TemporaryDirectory(prefix="pre-", dir="/tmp", ignore_cleanup_errors=True) as name:
        yield Path(name)
        assert end_leftovers("RAY_TMPDIR", name) == set()


def states(url: str, ended: threading.Event) -> Iterator[str]:
    """Return the states of /health, from the service's first own answer on."""
    deadline = time.monotonic() + START_S
    while not ended.is_set() and time.monotonic() < deadline:
        try:
            answer = httpx.get(f"{url}/health", timeout=30, trust_env=False)
            if answer.status_code == httpx.codes.OK:
                yield answer.json()["status"]
        except httpx.TransportError:
            pass
        time.sleep(0.1)


def test_a_start_is_told_and_waited_for_and_sigterm_to_the_group_leaves_nothing(
    folder: Path,
) -> None:
    config = shipped_config()
    config["http_options"]["port"] = free_port()
    config["applications"][0]["args"] |= {"prompts": {"file": f"{folder}/prompts.sqlite"}}
    url = f"http://127.0.0.1:{config['http_options']['port']}"
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    picture = folder / "scene.png"
    picture.write_bytes(encoded(scene()))
    variables = environment(str(folder)) | {"RAY_ADDRESS": "local"}
    with (folder / "log").open("wb") as log:
        service = subprocess.Popen(
            [PRELABEL, "serve", folder / "config.yaml"],
            cwd=ROOT,
            env=variables,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    said: list[str] = []
    ended = threading.Event()
    listener = threading.Thread(target=lambda: said.extend(states(url, ended)))
    listener.start()
    try:
        asked: list[str | Path] = [PRELABEL, "predict", picture, "--prompt", "red circle"]
        asked += ["--url", url]
        done = subprocess.run(
            [*asked, "--wait", str(START_S)], capture_output=True, text=True, check=False
        )
    finally:
        ended.set()
        listener.join()
        os.killpg(service.pid, signal.SIGTERM)
        status = service.wait(STOP_S)
    assert done.returncode == 0, done.stderr + (folder / "log").read_text()[-3000:]
    assert done.stderr == f"Waiting for the service at {url} to start, for up to {START_S} s ...\n"
    assert "\n1 box: " in done.stdout
    assert list(dict.fromkeys(said)) == ["STARTING", "UP"]
    assert status == 0
