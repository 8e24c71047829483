"""Speed, scaling and memory of the service, compared with the bare engine and a Flask server."""

from __future__ import annotations

import json
import statistics
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.bare_engine import MAX_PIXELS, BareEngine, bare_engine
from benchmarks.cost_app import BASE_S, ITEM_S
from benchmarks.launchers import flask_server, replicas_rss, service
from benchmarks.load_generator import Client, Load, closed_loop, open_loop
from benchmarks.measurement import Figures, interleaved, percentile, seconds
from benchmarks.models import write_full_size
from benchmarks.payloads import client_bodies, picture, predict_body, unique_copy
from prelabel.detection.suppression import Suppression
from prelabel.images.decode import decode_image
from prelabel.labelstudio.image_locator import ImageLocator
from prelabel.labelstudio.labeling_config import parse_labeling_config
from prelabel.labelstudio.predictions import to_prediction, to_regions
from prelabel.labelstudio.protocol import PredictRequest, Task
from prelabel.labelstudio.responses import Prediction
from prelabel.prompts.planner import plan_task
from prelabel.prompts.sources import PromptSources
from prelabel.settings import AppSettings
from prelabel.types import Detections, ProjectPrompts, TaskPlan

_COST_APP = "benchmarks.cost_app:build_cost_app"
_EMPTY_APP = "benchmarks.empty_app:build_empty_app"
_SLOW_APP = "benchmarks.cost_app:build_slow_app"
# Boxes in an answer, as for a crowded picture. With random weights all 900 queries score alike.
_BOXES = 20
_CLIENTS = (1, 8, 16, 32)


def full_size_figures(folder: Path) -> Figures:
    """Measure Swin-T: the service's share of the engine's throughput, and repeated requests.

    Repeated requests change only a threshold, so that they need no pass through the model.
    Medians of two starts, because processes differ in speed for as long as they live.
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
            closed_loop(url, 4, client_bodies(4, 1, encoded))
            bare.seconds()
            # The bare engine is measured before and after, half a minute apart at their middles, so
            # that a machine that slows down does so for both.
            before = bare.per_s(1, 5)
            served = closed_loop(url, 16, client_bodies(16, 2, encoded)).per_s
            around = statistics.harmonic_mean([before, bare.per_s(1, 5)])
            efficiency.append(served / around)
            rethreshold.append(_rethreshold(url, encoded))
    yield "service_efficiency_16", statistics.median(efficiency)
    yield "rethreshold_speedup", statistics.median(rethreshold)


def _rethreshold(url: str, encoded: bytes) -> float:
    """Return the speed-up of further thresholds on a picture over its first request."""
    first, again = [], []
    with Client(url) as client:
        for _ in range(3):
            image = unique_copy(encoded)
            first.append(client.post(predict_body(image, threshold=0.3)))
            bodies = [predict_body(image, threshold=value) for value in (0.1, 0.5, 0.0)]
            again += [client.post(body) for body in bodies]
    return statistics.median(first) / statistics.median(again)


def demo_figures() -> Figures:
    """Measure the demo model, whose passes are short, so that the service's own time shows.

    Service, bare engine and Flask server are started five times, and three of these starts measure
    throughput. The medians count, because processes differ in speed for as long as they live.
    """
    encoded = picture()
    starts = [dict(_one_start(encoded, clients)) for clients in [_CLIENTS] * 3 + [()] * 2]
    for name in starts[0]:
        yield name, statistics.median(start[name] for start in starts if name in start)
    for part, work in overhead_parts(encoded).items():
        taken_s = interleaved({part: partial(seconds, work)}, 30)
        yield f"overhead_{part}_p50_ms", statistics.median(taken_s[part]) * 1000


def _one_start(encoded: bytes, client_counts: Sequence[int]) -> Figures:
    with service({}) as service_url, flask_server("demo") as flask_url, bare_engine("demo") as bare:
        for url in (service_url, flask_url):
            _load(url, [], clients=32, per_client=1, encoded=encoded)
        bare.seconds(8)
        yield from _overhead(service_url, flask_url, bare, encoded)
        for clients in client_counts:
            load = partial(
                _load, clients=clients, per_client=max(2, 24 // clients), encoded=encoded
            )
            latencies: list[float] = []
            per_s = {
                "service": load(service_url, latencies),
                "flask": load(flask_url, []),
                "one": bare.per_s(1, 12),
                "eight": bare.per_s(8, 2),
            }
            yield f"demo_service_per_s_{clients}", per_s["service"]
            yield f"demo_over_flask_{clients}", per_s["service"] / per_s["flask"]
            yield f"demo_efficiency_{clients}", per_s["service"] / per_s["one"]
            yield f"demo_efficiency_{clients}_of_batches", per_s["service"] / per_s["eight"]
            for percent in (50, 95, 99):
                yield f"demo_p{percent}_ms_{clients}", percentile(latencies, percent) * 1000


def _load(
    url: str, latencies: list[float], *, clients: int, per_client: int, encoded: bytes
) -> float:
    load = closed_loop(url, clients, client_bodies(clients, per_client, encoded))
    latencies += load.latencies_s
    return load.per_s


def _overhead(url: str, flask_url: str, bare: BareEngine, encoded: bytes) -> Figures:
    with Client(url) as client, Client(flask_url) as flask:
        taken_s = interleaved(
            {
                "service": lambda: client.post(predict_body(unique_copy(encoded))),
                "health": lambda: client.get("/health"),
                "engine": lambda: bare.seconds()[0],
                "flask": lambda: flask.post(predict_body(unique_copy(encoded))),
            },
            30,
            warm=True,
        )
        repeated = predict_body(unique_copy(encoded))
        cached_s = interleaved({"cached": lambda: client.post(repeated)}, 30)
    service_s, health_s, engine_s, flask_s = map(statistics.median, taken_s.values())
    yield "overhead_p50_ms", (service_s - engine_s) * 1000
    yield "overhead_of_flask_p50_ms", (flask_s - engine_s) * 1000
    yield "overhead_http_p50_ms", health_s * 1000
    yield "overhead_without_pass_p50_ms", statistics.median(cached_s["cached"]) * 1000


def overhead_parts(encoded: bytes) -> dict[str, Callable[[], object]]:
    """Return the service's own steps of a request, without model and calls between processes."""
    settings, body = AppSettings(), predict_body(encoded)
    parsed = PredictRequest.model_validate(json.loads(body))
    [task] = parsed.tasks
    assert isinstance(task, Task)
    locator = ImageLocator(None, None, max_image_bytes=10**8, connect_timeout_s=1, timeout_s=1)
    sources = partial(PromptSources.of, task, parsed.context, ProjectPrompts())

    def plan() -> TaskPlan:
        config = parse_labeling_config(parsed.label_config, settings.prompts.max_labels)
        config = config.for_task(task.data)
        return plan_task(task, config, sources(config), settings)

    look = plan().looks[0]
    boxes = np.array([[10, 10, 50, 50]] * 5, np.float64) + 60 * np.arange(5)[:, None]
    detections = Detections(boxes, np.linspace(0.9, 0.5, 5), np.arange(5) % 2, (640, 480))
    suppression = Suppression.of(settings.detection)

    def postprocess() -> Prediction:
        return to_prediction(to_regions(look, detections, suppression), "version")

    return {
        "parse": lambda: PredictRequest.model_validate(json.loads(body)),
        "plan": plan,
        "fetch": lambda: locator.locate(look.uri, task.id),
        "decode": lambda: decode_image(encoded, max_pixels=MAX_PIXELS),
        "postprocess": postprocess,
        "serialise": partial(json.dumps, {"results": [postprocess()]}),
    }


def hop_figures() -> Figures:
    """Measure the same requests on an application with the same deployments and no work in them."""
    encoded = picture()
    with service({}, import_path=_EMPTY_APP) as url, Client(url) as client:
        taken_s = interleaved({"": lambda: client.post(predict_body(unique_copy(encoded)))}, 60)
        yield "overhead_serve_alone_p50_ms", statistics.median(taken_s[""]) * 1000


def memory_figures() -> Figures:
    """Measure the memory growth of all replicas between 500 and 2,000 requests, as a share.

    Each picture is requested twice, as Label Studio does it at Submit.
    """
    encoded = picture()
    args = {"cache": {"result_bytes": 4 * 1024 * 1024, "picture_bytes": 16 * 1024 * 1024}}

    def predict_all(pictures: int) -> None:
        bodies = client_bodies(8, pictures, encoded)
        closed_loop(url, 8, [[body for body in own for _ in range(2)] for own in bodies])

    with service(args) as url:
        predict_all(32)
        before = sum(replicas_rss().values())
        predict_all(94)
        yield "rss_growth", sum(replicas_rss().values()) / before - 1


def scaling_figures() -> Figures:
    """Measure with a sleeping engine: replicas, a steady rate, and an annotator during a bulk."""
    encoded = picture((64, 48))
    with service({}, import_path=_COST_APP, detector_cpus=0.1) as url:
        capacity = statistics.median(interleaved({"": _saturated(url, encoded, 16)}, 3)[""])
        yield "cost_model_per_s", capacity
        yield from _steady(url, encoded, capacity)
        yield from _annotator(url, encoded)
    per_s = {}
    for detectors in (1, 2, 4):
        with service({}, import_path=_SLOW_APP, detectors=detectors, detector_cpus=0.1) as url:
            _load(url, [], clients=24 * detectors, per_client=1, encoded=encoded)  # warm up
            per_s[detectors] = _saturated(url, encoded, 24 * detectors)()
            yield f"slow_model_per_s_{detectors}", per_s[detectors]
    yield "scale_2_replicas", per_s[2] / per_s[1]
    yield "scale_4_replicas", per_s[4] / per_s[1]


def _saturated(url: str, encoded: bytes, clients: int) -> Callable[[], float]:
    """Return a measurement of requests per second, with more clients than fit the batches."""
    return partial(_load, url, [], clients=clients, per_client=4, encoded=encoded)


def _steady(url: str, encoded: bytes, capacity_per_s: float) -> Figures:
    with Client(url) as client:
        alone = [client.post(predict_body(unique_copy(encoded))) for _ in range(60)]
    rate = 0.7 * capacity_per_s
    [bodies] = client_bodies(1, int(rate * 15), encoded)
    steady: Load = open_loop(url, rate, bodies)
    yield "open_loop_p95_ratio", percentile(steady.latencies_s, 95) / percentile(alone, 95)


def _annotator(url: str, encoded: bytes) -> Figures:
    """Measure the growth of an annotator's p95 latency during a bulk request, in full batches."""
    size = AppSettings().detection.max_batch_size
    batch_s = BASE_S + ITEM_S * size
    bulk = predict_body(*(unique_copy(encoded) for _ in range(600)))
    with Client(url) as annotator, Client(url) as bulk_client:

        def predict_one() -> float:
            return annotator.post(predict_body(unique_copy(encoded)))

        alone = [predict_one() for _ in range(60)]
        during = _repeat_during(lambda: bulk_client.post(bulk), predict_one)
    yield (
        "interactive_p95_excess_batches",
        (percentile(during, 95) - percentile(alone, 95)) / batch_s,
    )


def _repeat_during(work: Callable[[], object], measure: Callable[[], float]) -> list[float]:
    """Repeat a measurement while the work runs in another thread; return its values."""
    done = threading.Event()

    def run() -> None:
        try:
            work()
        finally:
            done.set()

    thread = threading.Thread(target=run)
    thread.start()
    done.wait(0.5)  # until the work has filled the queues
    values = []
    while not done.is_set():
        values.append(measure())
    thread.join()
    return values
