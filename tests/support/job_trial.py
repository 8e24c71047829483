"""A job over many pictures on two Ray nodes, of which one is killed, and then the job itself."""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from prelabel.offline.job import JobFolder
from tests.support.offline import keys_in
from tests.support.paths import ROOT
from tests.support.ray_cluster import Cluster, wait_for

LOG = logging.getLogger(__name__)
NODES = 2


@dataclass(frozen=True)
class Figures:
    """Passes of the engines, and pictures in the checkpoint, when the job was killed.

    Attributes:
        passes_before: Passes up to the kill.
        stored: Pictures that the checkpoint had then.
        passes_after: Passes of the job that was started again.
        seconds: Of both jobs.
    """

    passes_before: int
    stored: int
    passes_after: int
    seconds: float


def draw_pictures(folder: Path, count: int, size: tuple[int, int] = (96, 72)) -> None:
    """Draw small pictures with a red circle and a blue square, all different."""
    for number in range(count):
        image = Image.new("RGB", size, (120 + number % 80, 140, 130 + number // 80 % 80))
        draw = ImageDraw.Draw(image)
        left = 4 + number % 20
        draw.ellipse([left, 8, left + 24, 32], fill=(215, 30, 30))
        draw.rectangle([56, 30 + number % 12, 82, 56 + number % 12], fill=(35, 70, 220))
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        path = folder / f"{number % 7}" / f"{number:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue())


def interrupted_job(cluster: Cluster, folder: Path, count: int) -> Figures:
    """Run a job, kill a node and then the job, and run it again to its end. Return the figures."""
    pictures, output, notes = folder / "pictures", folder / "out", folder / "notes"
    draw_pictures(pictures, count)
    notes.touch()
    cluster.start_head("--num-cpus=2")
    victim = cluster.add_node()
    began = time.monotonic()
    log = folder / "run.log"

    def passes() -> int:
        return notes.stat().st_size

    first = _start(cluster, pictures, output, notes, log)
    _wait(first, log, "a third of the pictures pass", lambda: passes() > count / 3)
    cluster.remove(victim)
    survived = passes()
    _wait(
        first, log, "the job continues on the other node", lambda: passes() > survived + count / 10
    )
    os.killpg(first.pid, signal.SIGKILL)
    first.wait(60)
    time.sleep(2)  # Ray ends the job's actors when their driver is gone
    before, stored = passes(), JobFolder(str(output / "job")).count({})
    LOG.info("killed after %d passes, %d pictures stored", before, stored)
    cluster.add_node()
    second = _start(cluster, pictures, output, notes, log)
    assert second.wait(1800) == 0, log.read_text()[-4000:]
    keys = keys_in(output)
    assert set(keys.values()) == {1}
    assert len(keys) == count
    assert not (output / "job").exists()
    figures = Figures(before, stored, passes() - before, time.monotonic() - began)
    LOG.info("%s", figures)
    return figures


def _start(
    cluster: Cluster, pictures: Path, output: Path, notes: Path, log: Path
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.support.counted_job", "run"]
    command += [str(pictures), str(output), cluster.address, str(notes), str(NODES)]
    with log.open("ab") as file:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=cluster.environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait(
    process: subprocess.Popen[bytes], log: Path, what: str, truth: Callable[[], bool]
) -> None:
    def ended_or_true() -> bool:
        assert process.poll() is None, log.read_text()[-4000:]
        return truth()

    wait_for(what, ended_or_true, patience_s=900)
