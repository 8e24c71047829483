"""Run the benchmarks, and write the figures and a table of them to benchmarks/results.

There is a file for each kind of processor.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import chain
from pathlib import Path

from benchmarks.engine_figures import engine_figures
from benchmarks.mask_figures import mask_figures
from benchmarks.measurement import Figures
from benchmarks.prepare_figures import prepare_figures, process_figures
from benchmarks.service_figures import (
    demo_figures,
    full_size_figures,
    hop_figures,
    memory_figures,
    scaling_figures,
)
from deployments.placement import CPU_ENVIRONMENT
from prelabel.settings.paths import PROJECT_ROOT
from prelabel.settings.ray_environment import ray_variables

_RESULTS = PROJECT_ROOT / "benchmarks" / "results"
_WORK = PROJECT_ROOT / "benchmarks" / "work"  # weights of 700 MB; ignored by git
_PACKAGES = ("torch", "transformers", "ray", "groundingdino-py", "numpy", "pillow")
_PARTS: dict[str, Callable[[], Figures]] = {
    "engine": lambda: engine_figures(_WORK),
    "full_size": lambda: full_size_figures(_WORK),
    "demo": demo_figures,
    "hops": hop_figures,
    "scaling": scaling_figures,
    "memory": memory_figures,
    "masks": mask_figures,
    "prepare": lambda: chain(prepare_figures(), process_figures()),
}
# Targets on a machine with two cores.
_TARGETS = {
    "cpu_engine_speedup_640x640_float32": (">=", 2.5),
    "prepare_1280x853_share": ("<=", 0.7),
    "prepare_two_over_one_process": (">=", 1.8),
    "cpu_engine_scenes_differing": ("<=", 0),
    "service_efficiency_16": (">=", 0.95),
    "demo_efficiency_16": (">=", 0.75),
    "overhead_p50_ms": ("<=", 15),
    "demo_over_flask_1": (">=", 1),
    "demo_over_flask_8": (">=", 1),
    "demo_over_flask_16": (">=", 1),
    "demo_over_flask_32": (">=", 1),
    "rethreshold_speedup": (">=", 20),
    "scale_4_replicas": (">=", 3.6),
    "open_loop_p95_ratio": ("<=", 2.5),
    "interactive_p95_excess_batches": ("<=", 1.5),
    "rss_growth": ("<=", 0.03),
    "masks_click_over_overhead_p50_ms": ("<=", 60),
    "masks_bulk_share": (">=", 0.5),
    "masks_rle_20_ms": ("<=", 40),
}


def machine() -> dict[str, object]:
    """Return the processor's name and its number of cores."""
    names = {
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    }
    return {"processor": ", ".join(sorted(names)) or platform.machine(), "cores": os.cpu_count()}


def processor_kind(cpuinfo: str) -> str:
    """Return the newest instructions that matter here, from the contents of /proc/cpuinfo."""
    flags = set(cpuinfo.partition("flags")[2].partition("\n")[0].split())
    kinds = {"amx": "amx_bf16", "avx512": "avx512f", "avx2": "avx2"}
    return next((kind for kind, flag in kinds.items() if flag in flags), platform.machine())


def table(figures: dict[str, float]) -> str:
    """Format the figures and their targets as a Markdown table."""
    lines = ["| figure | measured | target |", "|---|---|---|"]
    for name, value in figures.items():
        target = " ".join(map(str, _TARGETS.get(name, "-")))
        lines.append(f"| `{name}` | {value:.3g} | {target} |")
    return "\n".join(lines) + "\n"


def _commit() -> str:
    command = ["git", "rev-parse", "HEAD"]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _adopt_environments() -> None:
    """Restart this process with the variables of Ray and of a detector, then unset the latter.

    Ray reads its variables when it is imported. The engines that run in this process need a
    detector's, which glibc and OpenMP read only when a process starts; they are unset because child
    processes set their own.
    """
    variables = ray_variables() | CPU_ENVIRONMENT
    if any(os.environ.get(name) != value for name, value in variables.items()):
        command = [sys.executable, "-m", "benchmarks.run", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | variables)
    for name in CPU_ENVIRONMENT:
        del os.environ[name]


def main() -> None:
    """Run the selected parts. The figures of all other parts are kept from the last run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=list(_PARTS))
    arguments = parser.parse_args()
    kind = processor_kind(Path("/proc/cpuinfo").read_text())
    latest = _RESULTS / f"{kind}.json"
    figures: dict[str, float] = {}
    parts: dict[str, str] = {}
    if set(arguments.parts) != set(_PARTS) and latest.is_file():
        previous = json.loads(latest.read_text())
        figures, parts = previous["figures"], previous["parts"]
    commit = _commit()
    for part in arguments.parts:
        started_at = time.monotonic()
        for name, value in _PARTS[part]():
            figures[name] = round(value, 4)
            print(f"{name}: {value:.4g}", flush=True)
        parts[part] = commit
        print(f"({part}: {time.monotonic() - started_at:.0f} s)", flush=True)
    report = {
        "machine": machine(),
        "versions": {name: version(name) for name in _PACKAGES},
        "commit": commit,
        "parts": parts,  # the commit of the last measurement of each part
        "figures": figures,
    }
    _RESULTS.mkdir(exist_ok=True)
    latest.write_text(json.dumps(report, indent=2) + "\n")
    latest.with_suffix(".md").write_text(table(figures))


if __name__ == "__main__":
    _adopt_environments()
    main()
