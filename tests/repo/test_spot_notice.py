"""The program that waits for the end of a spot machine, against fake metadata services.

A shell script in place of the `ray` command records its arguments; tests/serve/test_spot.py uses a
real Ray.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.support.paths import ROOT
from tests.support.spot_metadata import Metadata, metadata_service

PROGRAM = ROOT / "deploy" / "spot_notice.py"
PATIENCE_S = 20


@pytest.fixture
def aws() -> Iterator[Metadata]:
    with metadata_service("aws") as service:
        yield service


@pytest.fixture
def gcp() -> Iterator[Metadata]:
    with metadata_service("gcp") as service:
        yield service


def until(truth: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not truth():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def waiting(
    cloud: str, service: Metadata, folder: Path, drain: str = "true"
) -> Iterator[subprocess.Popen[str]]:
    """The program; `drain` is a shell's, after what it is called with is written to `calls`."""
    script = f'echo "$@" >> {folder}/calls; {drain}'
    command = [sys.executable, str(PROGRAM), cloud, f"--metadata={service.address}"]
    command += ["--every=0.1", f"--lock={folder}/lock", "--", "sh", "-c", script, "sh"]
    nowhere = "http://127.0.0.1:9"
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"http_proxy": nowhere, "HTTP_PROXY": nowhere},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def calls(folder: Path) -> list[str]:
    made = folder / "calls"
    return made.read_text().splitlines() if made.exists() else []


def deadline_of(call: str) -> int:
    return int(call.rpartition("--deadline-remaining-seconds=")[2])


def test_a_notice_of_aws_drains_the_node_in_the_time_that_is_left(
    aws: Metadata, tmp_path: Path
) -> None:
    with waiting("aws", aws, tmp_path) as process:
        until(lambda: len(aws.asked) > 6)
        assert process.poll() is None
        assert not calls(tmp_path)
        aws.notice = 120
        assert process.wait(PATIENCE_S) == 0
    [call] = calls(tmp_path)
    assert "--reason=DRAIN_NODE_REASON_PREEMPTION" in call
    assert 100 < deadline_of(call) <= 115


def test_a_notice_of_google_drains_the_node_in_less_than_half_a_minute(
    gcp: Metadata, tmp_path: Path
) -> None:
    with waiting("gcp", gcp, tmp_path) as process:
        until(lambda: len(gcp.asked) > 3)
        assert not calls(tmp_path)
        gcp.notice = 30
        assert process.wait(PATIENCE_S) == 0
    [call] = calls(tmp_path)
    assert 20 < deadline_of(call) <= 25


def test_a_metadata_service_that_fails_is_asked_again_and_mentioned_once(
    aws: Metadata, tmp_path: Path
) -> None:
    aws.broken = True
    with waiting("aws", aws, tmp_path) as process:
        until(lambda: len(aws.asked) > 5)
        aws.broken, aws.notice = False, 120
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr is not None
        assert process.stderr.read().count("cannot be read") == 1
    assert len(calls(tmp_path)) == 1


@pytest.mark.slow
def test_a_drain_that_fails_is_tried_again(aws: Metadata, tmp_path: Path) -> None:
    aws.notice = 120
    first_fails = f"[ $(wc -l < {tmp_path}/calls) -gt 1 ]"
    with waiting("aws", aws, tmp_path, first_fails) as process:
        assert process.wait(PATIENCE_S) == 0
    assert len(calls(tmp_path)) == 2


@pytest.mark.slow
def test_it_gives_up_when_the_machine_should_be_gone(aws: Metadata, tmp_path: Path) -> None:
    aws.notice = 2
    with waiting("aws", aws, tmp_path, "false") as process:
        assert process.wait(PATIENCE_S) == 0
    assert len(calls(tmp_path)) < 6


def test_a_second_one_ends_at_once(aws: Metadata, tmp_path: Path) -> None:
    with waiting("aws", aws, tmp_path) as first:
        until(lambda: aws.asked)
        with waiting("aws", aws, tmp_path) as second:
            assert second.wait(PATIENCE_S) == 0
        assert first.poll() is None


@pytest.mark.parametrize("path", ["cluster.yaml", "deploy/cluster.gcp.yaml"])
def test_the_cluster_s_command_starts_it_and_lets_the_shell_go(path: str, tmp_path: Path) -> None:
    cluster = yaml.safe_load((ROOT / path).read_text())
    [command] = [c for c in cluster["worker_start_ray_commands"] if "spot_notice" in c]
    cloud = cluster["provider"]["type"]
    assert cluster["file_mounts"]["~/app/deploy/spot_notice.py"] == "deploy/spot_notice.py"
    assert f" {cloud} " in command
    programs = tmp_path / "venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)
    (programs / "ray").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    (programs / "ray").chmod(0o755)
    (tmp_path / "app").symlink_to(ROOT)
    with metadata_service(cloud) as service:
        here = f" {cloud} --metadata={service.address} --lock={tmp_path}/lock --every=0.1 "
        shell = subprocess.run(
            ["bash", "-c", command.replace(f" {cloud} ", here)],
            env=os.environ | {"HOME": str(tmp_path)},
            stdout=subprocess.PIPE,  # which ends when no process holds it any more
            stderr=subprocess.STDOUT,
            timeout=PATIENCE_S,
            check=True,
        )
        assert shell.stdout == b""
        until(lambda: service.asked)
        [process] = running(f"--lock={tmp_path}/lock")
        try:
            assert os.getsid(process) == process  # the shell's terminal is not its own
            service.notice = 120
            until(lambda: calls(tmp_path))
            until(lambda: not running(f"--lock={tmp_path}/lock"))
        finally:
            for left in running(f"--lock={tmp_path}/lock"):
                os.kill(left, signal.SIGKILL)
    assert calls(tmp_path)[0].startswith("drain-node --reason=DRAIN_NODE_REASON_PREEMPTION ")
    assert "drained" in (tmp_path / "spot_notice.log").read_text()


def running(argument: str) -> list[int]:
    """Return the ids of the processes that were started with this argument."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if argument.encode() in (folder / "cmdline").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
