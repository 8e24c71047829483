"""The service, beside the engine alone and the smallest server around it."""

from __future__ import annotations

import json
import statistics
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.bare import MOST_PIXELS, BareEngine, bare_engine
from benchmarks.bodies import picture, request, requests_for, unseen
from benchmarks.cost_app import BASE_S, ITEM_S
from benchmarks.models import write_full_size
from benchmarks.servers import flask_server, replicas_rss, service
from benchmarks.timing import Client, Load, closed_loop, in_turns, open_loop, percentile, seconds
from prelabel.images.decode import decode_image
from prelabel.labelstudio.image_locator import ImageLocator
from prelabel.labelstudio.labeling_config import parse_labeling_config
from prelabel.labelstudio.predictions import Suppression, to_prediction, to_regions
from prelabel.labelstudio.protocol import PredictRequest, Task
from prelabel.labelstudio.responses import Prediction
from prelabel.prompts.planner import plan_task
from prelabel.prompts.sources import PromptSources
from prelabel.settings import AppSettings
from prelabel.types import Detections, ProjectPrompts, TaskPlan

_COST_APP = "benchmarks.cost_app:build_cost_app"
_EMPTY_APP = "benchmarks.empty_app:build_empty_app"
_SLOW_APP = "benchmarks.cost_app:build_slow_app"
_BOXES = 20  # in an answer, as of a full picture; with random weights all 900 score alike
_CLIENTS = (1, 8, 16, 32)
Figures = Iterator[tuple[str, float]]


def full_size_figures(folder: Path) -> Figures:
    """With Swin-T: the share of the engine's throughput that is left, and another threshold. As for
    the demo, processes are started anew, twice.
    """
    card = str(write_full_size(folder, 640, 640))
    encoded = picture((640, 640))
    efficiency, rethreshold = [], []
    for _ in range(2):
        args = {
            "model": {"name": card},
            "limits": {"request_deadline_s": 300},
            "detection": {"max_boxes": _BOXES},
        }
        with service(args) as url, bare_engine(card, (640, 640)) as bare:
            closed_loop(url, 4, requests_for(4, 1, encoded))
            bare.seconds()
            # Half a minute lies between their middles: a machine that gets slower does so for both.
            before = bare.per_s(1, 5)
            served = closed_loop(url, 16, requests_for(16, 2, encoded)).per_s
            around = statistics.harmonic_mean([before, bare.per_s(1, 5)])
            efficiency.append(served / around)
            rethreshold.append(_rethreshold(url, encoded))
    yield "service_efficiency_16", statistics.median(efficiency)
    yield "rethreshold_speedup", statistics.median(rethreshold)


def _rethreshold(url: str, encoded: bytes) -> float:
    """How much faster another threshold is answered than the first."""
    first, again = [], []
    with Client(url) as client:
        for _ in range(3):
            seen = unseen(encoded)
            first.append(client.post(request(seen, threshold=0.3)))
            again += [client.post(request(seen, threshold=value)) for value in (0.1, 0.5, 0.0)]
    return statistics.median(first) / statistics.median(again)


def demo_figures() -> Figures:
    """With the demo, where the service's own time weighs: against engine and Flask server. Each is
    started five times, three of them for throughput, and the median counts, for one process's pass
    is faster than another's for as long as they live.
    """
    encoded = picture()
    sets = [dict(_of_one_set(encoded, clients)) for clients in [_CLIENTS] * 3 + [()] * 2]
    for name in sets[0]:
        yield name, statistics.median(found[name] for found in sets if name in found)
    for part, work in overhead_parts(encoded).items():
        taken = in_turns({part: partial(seconds, work)}, 30)
        yield f"overhead_{part}_p50_ms", statistics.median(taken[part]) * 1000


def _of_one_set(encoded: bytes, throughput_of: Sequence[int]) -> Figures:
    with service({}) as ours, flask_server("demo") as flask, bare_engine("demo") as bare:
        for url in (ours, flask):
            _load(url, [], clients=32, each=1, encoded=encoded)
        bare.seconds(8)
        yield from _overhead(ours, flask, bare, encoded)
        for clients in throughput_of:
            load = partial(_load, clients=clients, each=max(2, 24 // clients), encoded=encoded)
            latencies: list[float] = []
            per_s = {
                "service": load(ours, latencies),
                "flask": load(flask, []),
                "one": bare.per_s(1, 12),
                "eight": bare.per_s(8, 2),
            }
            yield f"demo_service_per_s_{clients}", per_s["service"]
            yield f"demo_over_flask_{clients}", per_s["service"] / per_s["flask"]
            yield f"demo_efficiency_{clients}", per_s["service"] / per_s["one"]
            yield f"demo_efficiency_{clients}_of_batches", per_s["service"] / per_s["eight"]
            for percent in (50, 95, 99):
                yield f"demo_p{percent}_ms_{clients}", percentile(latencies, percent) * 1000


def _load(url: str, latencies: list[float], *, clients: int, each: int, encoded: bytes) -> float:
    load = closed_loop(url, clients, requests_for(clients, each, encoded))
    latencies += load.latencies_s
    return load.per_s


def _overhead(url: str, flask_url: str, bare: BareEngine, encoded: bytes) -> Figures:
    with Client(url) as client, Client(flask_url) as flask:
        found = in_turns(
            {
                "service": lambda: client.post(request(unseen(encoded))),
                "health": lambda: client.get("/health"),
                "engine": lambda: bare.seconds()[0],
                "flask": lambda: flask.post(request(unseen(encoded))),
            },
            30,
            warm=True,
        )
        asked = request(unseen(encoded))
        again = in_turns({"kept": lambda: client.post(asked)}, 30)
    service_s, health_s, engine_s, flask_s = map(statistics.median, found.values())
    yield "overhead_p50_ms", (service_s - engine_s) * 1000
    yield "overhead_of_flask_p50_ms", (flask_s - engine_s) * 1000
    yield "overhead_http_p50_ms", health_s * 1000
    yield "overhead_without_pass_p50_ms", statistics.median(again["kept"]) * 1000


def overhead_parts(encoded: bytes) -> dict[str, Callable[[], object]]:
    """What the service itself does of a request, without model and hops."""
    settings, body = AppSettings(), request(encoded)
    asked = PredictRequest.model_validate(json.loads(body))
    [task] = asked.tasks
    assert isinstance(task, Task)
    client = ImageLocator(None, None, max_image_bytes=10**8, connect_timeout_s=1, timeout_s=1)
    sources = partial(PromptSources.of, task, asked.context, ProjectPrompts())

    def plan() -> TaskPlan:
        config = parse_labeling_config(asked.label_config, settings.prompts.max_labels)
        config = config.for_task(task.data)
        return plan_task(task, config, sources(config), settings)

    look = plan().looks[0]
    boxes = np.array([[10, 10, 50, 50]] * 5, np.float64) + 60 * np.arange(5)[:, None]
    found = Detections(boxes, np.linspace(0.9, 0.5, 5), np.arange(5) % 2, (640, 480))
    suppression = Suppression(iou_threshold=0.7, class_agnostic=False, max_boxes=300, min_box_px=1)

    def postprocess() -> Prediction:
        return to_prediction(to_regions(look, found, suppression), "version")

    return {
        "parse": lambda: PredictRequest.model_validate(json.loads(body)),
        "plan": plan,
        "fetch": lambda: client.locate(look.uri, task.id),
        "decode": lambda: decode_image(encoded, max_pixels=MOST_PIXELS),
        "postprocess": postprocess,
        "serialise": partial(json.dumps, {"results": [postprocess()]}),
    }


def hop_figures() -> Figures:
    """An application of the same shape that does nothing, for the same requests."""
    encoded = picture()
    with service({}, import_path=_EMPTY_APP) as url, Client(url) as client:
        found = in_turns({"": lambda: client.post(request(unseen(encoded)))}, 60)
        yield "overhead_serve_alone_p50_ms", statistics.median(found[""]) * 1000


def memory_figures() -> Figures:
    """Growth of all replicas together from 500 requests to 2,000, as a share. Each picture is asked
    for twice, as at Submit.
    """
    encoded = picture()
    args = {"cache": {"result_bytes": 4 * 1024 * 1024, "picture_bytes": 16 * 1024 * 1024}}

    def ask(pictures: int) -> None:
        bodies = requests_for(8, pictures, encoded)
        closed_loop(url, 8, [[body for body in each for _ in range(2)] for each in bodies])

    with service(args) as url:
        ask(32)
        before = sum(replicas_rss().values())
        ask(94)
        yield "rss_growth", sum(replicas_rss().values()) / before - 1


def scaling_figures() -> Figures:
    """With an engine that only costs time: replicas, a steady rate, and an annotator in a bulk."""
    encoded = picture((64, 48))
    with service({}, import_path=_COST_APP, detector_cpus=0.1) as url:
        capacity = statistics.median(in_turns({"": _saturated(url, encoded, 16)}, 3)[""])
        yield "cost_model_per_s", capacity
        yield from _steady(url, encoded, capacity)
        yield from _annotator(url, encoded)
    per_s = {}
    for detectors in (1, 2, 4):
        with service({}, import_path=_SLOW_APP, detectors=detectors, detector_cpus=0.1) as url:
            _load(url, [], clients=24 * detectors, each=1, encoded=encoded)  # warm up
            per_s[detectors] = _saturated(url, encoded, 24 * detectors)()
            yield f"slow_model_per_s_{detectors}", per_s[detectors]
    yield "scale_2_replicas", per_s[2] / per_s[1]
    yield "scale_4_replicas", per_s[4] / per_s[1]


def _saturated(url: str, encoded: bytes, clients: int) -> Callable[[], float]:
    """Requests per second of more clients than fit the batches."""
    return partial(_load, url, [], clients=clients, each=4, encoded=encoded)


def _steady(url: str, encoded: bytes, capacity_per_s: float) -> Figures:
    with Client(url) as client:
        alone = [client.post(request(unseen(encoded))) for _ in range(60)]
    rate = 0.7 * capacity_per_s
    [bodies] = requests_for(1, int(rate * 15), encoded)
    steady: Load = open_loop(url, rate, bodies)
    yield "open_loop_p95_ratio", percentile(steady.latencies_s, 95) / percentile(alone, 95)


def _annotator(url: str, encoded: bytes) -> Figures:
    """How much longer 95 % of his requests take during a bulk, in full batches."""
    size = AppSettings().detection.max_batch_size
    batch_s = BASE_S + ITEM_S * size
    bulk = request(*(unseen(encoded) for _ in range(600)))
    with Client(url) as client, Client(url) as other:

        def ask() -> float:
            return client.post(request(unseen(encoded)))

        alone = [ask() for _ in range(60)]
        during = _while(lambda: other.post(bulk), ask)
    yield (
        "interactive_p95_excess_batches",
        (percentile(during, 95) - percentile(alone, 95)) / batch_s,
    )


def _while(work: Callable[[], object], ask: Callable[[], float]) -> list[float]:
    """What is answered while the work goes on."""
    done = threading.Event()

    def run() -> None:
        try:
            work()
        finally:
            done.set()

    thread = threading.Thread(target=run)
    thread.start()
    done.wait(0.5)
    answers = []
    while not done.is_set():
        answers.append(ask())
    thread.join()
    return answers
