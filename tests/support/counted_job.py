"""The job of `prelabel annotate --ray` with the demo model, which notes each pass in a file.

    python -m tests.support.counted_job run PICTURES OUTPUT ADDRESS NOTES NODES

runs the command's part; a test may kill it with all its processes.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from rich.console import Console

from jobs.annotate import annotate, connect
from prelabel.checkpoints.cards import ModelCard
from prelabel.cli.annotate_job import run_job
from prelabel.cli.input_plan import InputOptions, plan_input
from prelabel.engines import load_engine
from prelabel.offline.job import JobFolder
from prelabel.offline.results import ResultFolder
from prelabel.settings import Environment

LABELS = "red circle,blue square"
CONFIG = """
applications:
  - args:
      model: {name: demo, device: cpu, segmenter: ""}
"""


class NotingLoader:
    """Loads the model, and adds a character to a file for each picture that passes."""

    def __init__(self, notes: str) -> None:
        self._notes = notes

    def __call__(self, card: ModelCard, folder: Path, **options: Any) -> Any:
        engine: Any = load_engine(card, folder, **options)
        detect = engine.detect

        def noted(items: Sequence[Any]) -> Any:
            with Path(self._notes).open("ab") as file:
                file.write(b"." * len(items))
            return detect(items)

        engine.detect = noted
        return engine


def options_for(pictures: Path, output: Path, config: Path, **changes: Any) -> InputOptions:
    given: dict[str, Any] = {
        "input": str(pictures),
        "output": str(output),
        "formats": (),
        "labels": LABELS,
        "config": config,
        "block": 10,
        **dict.fromkeys(("prompt", "label_config", "project", "box_threshold", "text_threshold")),
        **dict.fromkeys(("address_prefix", "address", "engines")),
        **dict.fromkeys(("dry_run", "failed", "retry_failed", "json_output", "ray"), False),
    }
    return InputOptions(**{**given, **changes})


def run(pictures: str, output: str, address: str, notes: str, nodes: str) -> None:
    os.environ |= {"COUNTED_NOTES": notes, "COUNTED_NODES": nodes}
    config = Path(notes).with_suffix(".yaml")
    config.write_text(CONFIG)
    options = options_for(Path(pictures), Path(output), config, address=address)
    plan = plan_input(options, Environment())
    results = ResultFolder(Path(output), plan.manifest)
    progress = run_job(plan, results, options, Console(), module="tests.support.counted_job")
    results.close()
    assert progress.failed == 0


def job(folder: str, address: str) -> None:
    connect(address)
    wanted = int(os.environ["COUNTED_NODES"])
    while sum(node["Alive"] for node in ray.nodes()) < wanted:  # type: ignore[no-untyped-call]
        time.sleep(0.2)
    annotate(JobFolder(folder), NotingLoader(os.environ["COUNTED_NOTES"]))


if __name__ == "__main__":
    if sys.argv[1] == "run":
        run(*sys.argv[2:])
    else:
        job(*sys.argv[1:])
