"""In an empty folder: `git clone`, `make demo`, and boxes in a browser within six minutes."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from pathlib import Path

from tests.support.browser import annotator_at
from tests.support.paths import ROOT
from tests.support.running_demo import STOP_S, Told, demo_in, get_boxes_by_typing

WITHIN_S = 360
LOG = logging.getLogger("fresh")


def test_a_new_clone_has_boxes_in_a_browser_within_six_minutes(tmp_path: Path) -> None:
    checkout = tmp_path / "prelabel"
    screenshots = ROOT / "artifacts/fresh"
    screenshots.mkdir(parents=True, exist_ok=True)
    # The shell's proxies and pip's index stay; its Python does not.
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "VIRTUAL_ENV", "LABEL_STUDIO_", "RAY_", "MAKE"))
    }
    began_at = time.monotonic()
    subprocess.run(["git", "clone", "--quiet", ROOT, checkout], check=True)
    with demo_in(checkout / ".demo", variables, checkout) as demo:
        with demo.started(within_s=WITHIN_S - (time.monotonic() - began_at)) as process:
            LOG.info("Ready %.0f s after git clone began.", time.monotonic() - began_at)
            told = Told.by(demo.said)
            with annotator_at(told.address, screenshots) as person:
                get_boxes_by_typing(person, told)
            LOG.info("Boxes %.0f s after git clone began.", time.monotonic() - began_at)
            os.killpg(process.pid, signal.SIGINT)
            process.wait(STOP_S)
            demo.wait_until_left()
        (screenshots / "make-demo.log").write_text(demo.said)
