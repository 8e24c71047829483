"""Measure a detector on a GPU in eight minutes, and write benchmarks/results/gpu.json.

Runs in the project's environment, and with any Python that has torch, triton and transformers.
Parts whose packages are missing are named and left out: without groundingdino-py the engine,
without Ray the service, without the icons of `make train-demo` the comparison of number formats.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.measurement import Figures, per_s
from benchmarks.payloads import photograph
from benchmarks.prepare_figures import prepare
from prelabel.checkpoints.cards import load_card, model_folder
from prelabel.engines import load_engine
from prelabel.engines.base import AnyEngine
from prelabel.engines.kernels.deformable_attention import Sampler, sample_by_torch
from prelabel.images.decode_pool import DecodePool
from prelabel.settings import MIB
from prelabel.settings.paths import PROJECT_ROOT

_RESULTS = PROJECT_ROOT / "benchmarks" / "results"
_WORK = PROJECT_ROOT / "benchmarks" / "work"
_PHRASES = ("frog", "horse", "sunflower")
_LEVELS = ((100, 167), (50, 84), (25, 42), (13, 21))  # of 800 x 1333 pixels
_SCENES = 200


@dataclass(frozen=True, slots=True)
class Plan:
    """The measurements to make.

    Attributes:
        device: `cuda`, or `cpu` to try the benchmark out.
        model: Name or card of the model; empty for Swin-T with random weights.
        batches: Numbers of pictures in a pass.
        seconds: Time of each measurement.
    """

    device: str
    model: str
    batches: Sequence[int]
    seconds: float

    @property
    def precisions(self) -> tuple[str, ...]:
        """The default comes first."""
        return ("float16", "bfloat16", "float32") if self.device == "cuda" else ("float32",)

    def card(self) -> str:
        """Return the model's name or path."""
        if self.model:
            return self.model
        from benchmarks.models import write_full_size

        return str(write_full_size(_WORK, 800, 1333))

    def load(self, precision: str, name: str = "") -> AnyEngine:
        """Load the model, or another one."""
        card = load_card(name or self.card())
        folder = model_folder(card, "models")
        return load_engine(card, folder, device=self.device, precision=precision)


def engine_figures(plan: Plan) -> Figures:
    """Measure passes over pictures that are prepared, by number format and size of the batch."""
    image = np.random.default_rng(0).integers(0, 256, (800, 1333, 3), dtype=np.uint8)
    for precision in plan.precisions:
        began = time.perf_counter()
        engine = plan.load(precision)
        yield f"{precision}_ready_s", time.perf_counter() - began
        [item] = engine.prepare(image, _PHRASES)
        for batch in plan.batches:
            detect = partial(engine.detect, [item] * batch)
            pass_s = _seconds_each(detect, plan.seconds)
            yield f"{precision}_{batch}_ms", pass_s * 1000
            yield f"{precision}_{batch}_per_s", batch / pass_s
        if plan.device == "cuda":
            for batch in (1, max(plan.batches)):
                yield from _kernel_figures(f"{precision}_{batch}", engine, [item] * batch)
            yield f"{precision}_memory_gb", torch.cuda.max_memory_allocated() / 1e9
        del engine


def _kernel_figures(name: str, engine: AnyEngine, items: Sequence[object]) -> Figures:
    from torch.profiler import ProfilerActivity, profile

    passes = 5
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        began = time.perf_counter()
        for _ in range(passes):
            engine.detect(items)
        wall_s = time.perf_counter() - began
    kernels = [event for event in profiler.events() if event.device_type.name == "CUDA"]
    busy_s = sum(event.device_time_total for event in kernels) / 1e6
    yield f"{name}_kernels", len(kernels) / passes
    yield f"{name}_gpu_busy", busy_s / wall_s


def sampler_figures(plan: Plan) -> Figures:
    """Measure the sampling of deformable attention in an encoder layer, against PyTorch's."""
    samplers: dict[str, Sampler] = {"torch": sample_by_torch}
    dtype = torch.float32
    if plan.device == "cuda":
        from prelabel.engines.kernels.deformable_attention_triton import sample_by_triton

        samplers["triton"], dtype = sample_by_triton, torch.float16
    levels_hw = torch.tensor(_LEVELS, device=plan.device)
    positions = int(levels_hw.prod(1).sum())
    for batch in (1, 8) if plan.device == "cuda" else (1,):
        value = torch.randn(batch, positions, 8, 32, device=plan.device, dtype=dtype)
        reference = torch.rand(1, positions, 1, 2, device=plan.device).expand(batch, -1, 4, -1)
        offsets = 3 * torch.randn(batch, positions, 8, 4, 4, 2, device=plan.device)
        logits = torch.randn(batch, positions, 8, 16, device=plan.device)
        for name, sample in samplers.items():
            work = partial(
                _synchronised, partial(sample, value, levels_hw, reference, offsets, logits)
            )
            yield f"sampler_{name}_{batch}_ms", _seconds_each(work, plan.seconds) * 1000


def format_figures(plan: Plan) -> Figures:
    """Measure how far each number format moves the demo model's boxes, and its AP50."""
    from benchmarks.rounding import rounding_figures
    from training import WORK
    from training.held_out import load_scenes, measured_sets
    from training.world import load_world

    world = load_world()
    count = _SCENES if plan.seconds > 1 else 2
    scenes = list(load_scenes(measured_sets(world)["seen"], world, WORK)(count))
    card = load_card("demo").model_copy(update={"engine": "groundingdino", "config": None})
    folder = model_folder(card, "models")
    load = partial(load_engine, card, folder)
    exact = load(device="cpu", precision="float32")
    for precision in plan.precisions:
        other = load(device=plan.device, precision=precision)
        for name, value in rounding_figures(exact, other, scenes).items():
            yield f"rounding_{precision}_{name}", value


def library_figures(plan: Plan) -> Figures:
    """Measure groundingdino-py as it is."""
    from benchmarks.models import PHRASES, library_model

    if plan.model:
        return  # there is no such model of the library
    model = library_model().to(plan.device)
    caption = " . ".join(PHRASES) + " ."
    for batch in (1, 8):
        pixels = torch.randn(batch, 3, 800, 1333, device=plan.device)
        with torch.inference_mode():
            work = partial(_synchronised, partial(model, pixels, captions=[caption] * batch))
            pass_s = _seconds_each(work, plan.seconds)
        yield f"groundingdino_py_{batch}_ms", pass_s * 1000
        yield f"groundingdino_py_{batch}_per_s", batch / pass_s


def prepare_figures(plan: Plan) -> Figures:
    """Measure JPEG files to model input, in one thread and in a process for each core."""
    cores = os.cpu_count() or 1
    pool = DecodePool(cores)
    try:
        for wh in ((1280, 853), (4000, 3000)):
            encoded = photograph(wh)
            name = f"prepare_{wh[0]}x{wh[1]}"
            one_s = _seconds_each(partial(prepare, encoded), plan.seconds)
            yield f"{name}_ms", one_s * 1000
            in_pool = partial(prepare, encoded, pool)
            yield f"{name}_all_cores_per_s", per_s(in_pool, cores, plan.seconds)
    finally:
        pool.close()


def service_figures(plan: Plan) -> Figures:
    """Measure the service around the engine, with clients on this machine."""
    import ray  # noqa: F401  # the reason why this part may be left out

    from benchmarks.launchers import service
    from benchmarks.load_generator import closed_loop
    from benchmarks.payloads import client_bodies, predict_body, unique_copy

    args = {
        "model": {"name": plan.card(), "device": plan.device},
        "detection": {"max_batch_size": 16, "max_boxes": 20},
        # A request of 200 pictures has 75 MB.
        "limits": {"request_deadline_s": 280, "max_body_bytes": 128 * MIB},
    }
    usual, large = photograph((1280, 853)), photograph((4000, 3000))
    each = max(1, int(5 * plan.seconds))  # requests of a client
    with service(args) as url:
        closed_loop(url, 16, client_bodies(16, 2, usual))
        loads = [(1, usual, 4 * each), (8, usual, 2 * each), (32, usual, each), (64, usual, each)]
        for clients, encoded, count in [*loads, (32, large, max(1, each // 2))]:
            load = closed_loop(url, clients, client_bodies(clients, count, encoded))
            name = f"service_{clients}_clients" + ("_12mp" if encoded is large else "")
            yield f"{name}_per_s", load.per_s
            yield f"{name}_p50_ms", float(np.median(load.latencies_s)) * 1000
        tasks = 200 if plan.seconds > 1 else 4
        bulk = predict_body(*(unique_copy(usual) for _ in range(tasks)))
        yield "service_200_tasks_per_s", tasks / closed_loop(url, 1, [[bulk]]).latencies_s[0]


PARTS: dict[str, Callable[[Plan], Figures]] = {
    "engine": engine_figures,
    "sampler": sampler_figures,
    "formats": format_figures,
    "library": library_figures,
    "prepare": prepare_figures,
    "service": service_figures,
}


def measure(plan: Plan, parts: Sequence[str]) -> tuple[dict[str, float], dict[str, str]]:
    """Return the figures, and the reason for each part that was left out."""
    figures: dict[str, float] = {}
    left_out: dict[str, str] = {}
    for part in parts:
        try:
            for name, value in PARTS[part](plan):
                figures[name] = round(float(value), 4)
                print(f"{name:40} {value:10.4g}", flush=True)
        except (ImportError, FileNotFoundError) as error:
            left_out[part] = str(error)
            print(f"({part} is left out: {error})", flush=True)
    return figures, left_out


def main() -> None:
    """Measure, print the figures and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--model", default="", help="another model than Swin-T with random weights")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--seconds", type=float, default=2.5, help="of each measurement")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=_RESULTS / "gpu.json")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.exit(1, "No GPU is visible to torch. Run this where `nvidia-smi` shows one.\n")
    plan = Plan(arguments.device, arguments.model, arguments.batches, arguments.seconds)
    figures, left_out = measure(plan, arguments.parts)
    name = torch.cuda.get_device_name() if plan.device == "cuda" else "cpu"
    report = {
        "device": name,
        "cores": os.cpu_count(),
        "versions": {"torch": torch.__version__, "cuda": torch.version.cuda},
        "left_out": left_out,
        "figures": figures,
    }
    arguments.out.parent.mkdir(exist_ok=True, parents=True)
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")


def _seconds_each(work: Callable[[], object], seconds: float) -> float:
    """Return the mean time of a call, after three that warm up."""
    for _ in range(3 if seconds > 1 else 1):
        work()
    calls, began = 0, time.perf_counter()
    while (taken_s := time.perf_counter() - began) < seconds or not calls:
        work()
        calls += 1
    return taken_s / calls


def _synchronised(work: Callable[[], object]) -> None:
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
