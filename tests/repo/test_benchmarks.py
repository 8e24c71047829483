"""The parts of the benchmarks measure what they claim."""

import json
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from benchmarks import gpu
from benchmarks.bare_engine import bare_engine
from benchmarks.cost_app import CostEngine
from benchmarks.load_generator import closed_loop, open_loop
from benchmarks.measurement import Figures, interleaved, medians, percentile
from benchmarks.payloads import client_bodies, picture, predict_body, unique_copy
from benchmarks.rounding import Rounding
from benchmarks.run import processor_kind, table
from benchmarks.service_figures import overhead_parts
from prelabel.images.decode import decode_image
from prelabel.types import Detections


@contextmanager
def answering(body: bytes = b'{"results": []}', pause_s: float = 0.0) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(pause_s)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_what_is_compared_runs_in_turns_and_once_before() -> None:
    order: list[str] = []

    def work(name: str) -> float:
        order.append(name)
        return len(order)

    works = {name: partial(work, name) for name in "ab"}
    found = interleaved(works, 2)
    assert "".join(order) == "ababab"
    assert found == {"a": [3, 5], "b": [4, 6]}
    assert medians(found) == {"a": 4, "b": 5}
    order.clear()
    interleaved(works, 2, warm=True)
    assert "".join(order) == "abab"


def test_percentiles() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert [percentile(values, percent) for percent in (0, 50, 95, 99.9)] == [1, 51, 96, 100]
    assert percentile([3.0], 95) == 3


def test_each_picture_is_a_file_of_its_own_that_shows_the_same() -> None:
    encoded = picture((64, 48))
    bodies = [body for each in client_bodies(3, 4, encoded) for body in each]
    assert len(set(bodies)) == 12
    pictures = [decode_image(unique_copy(encoded), max_pixels=10**6) for _ in range(2)]
    assert (pictures[0] == pictures[1]).all()
    task = json.loads(predict_body(encoded, threshold=0.0))["params"]["context"]["result"][0]
    assert task["value"] == {"number": 0.0}


def test_a_closed_loop_counts_what_was_answered() -> None:
    with answering(pause_s=0.05) as server:
        load = closed_loop(server, 4, [[b"{}"] * 3] * 4)
    assert len(load.latencies_s) == 12
    assert min(load.latencies_s) > 0.05
    # Four clients in parallel take at least the mean of their sums.
    assert 0 < load.per_s <= 12 / (sum(load.latencies_s) / 4)


def test_an_open_loop_counts_from_when_a_request_was_due() -> None:
    with answering(pause_s=0.05) as server:
        load = open_loop(server, 50, [b"{}"] * 10)
    assert len(load.latencies_s) == 10
    assert min(load.latencies_s) > 0.05


@pytest.mark.parametrize(
    "loop", [lambda u: closed_loop(u, 1, [[b"{}"]]), lambda u: open_loop(u, 9, [b"{}"])]
)
def test_an_answer_that_is_no_prediction_fails_the_measurement(loop: Callable[..., Any]) -> None:
    with (
        answering(b'{"results": [{"error": "no"}]}') as server,
        pytest.raises(RuntimeError, match="error"),
    ):
        loop(server)


def test_the_cost_engine_costs_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    slept_s: list[float] = []
    monkeypatch.setattr(time, "sleep", slept_s.append)
    engine = CostEngine(0.02, 0.01)
    items = engine.prepare(np.zeros((1, 1, 3), np.uint8), ("cat", "dog")) * 4
    found = engine.detect(items)
    assert slept_s == [pytest.approx(0.02 + 4 * 0.01)]
    assert [each.phrase_max.shape for each in found] == [(2, 2)] * 4


@pytest.mark.slow
def test_the_bare_engine_answers_from_a_process_of_its_own() -> None:
    with bare_engine("demo", (64, 48)) as bare:
        taken = bare.seconds(2, 3)
        assert len(taken) == 3
        assert min(taken) > 0.001
        assert 0 < bare.per_s(1, 1) < 1000


@pytest.mark.slow
def test_a_process_that_has_ended_fails_the_measurement() -> None:
    with bare_engine("nobody-has-this") as bare, pytest.raises(RuntimeError, match="status 1"):
        bare.seconds()


def test_the_table_has_the_targets() -> None:
    text = table({"scale_4_replicas": 3.71, "other": 2.0})
    assert "| `scale_4_replicas` | 3.71 | >= 3.6 |" in text
    assert "| `other` | 2 | - |" in text


def test_the_parts_of_a_request_are_the_services_own() -> None:
    parts: dict[str, Callable[[], Any]] = dict(overhead_parts(picture()))
    assert list(parts) == ["parse", "plan", "fetch", "decode", "postprocess", "serialise"]
    assert len(parts["plan"]().looks) == 1
    assert parts["fetch"]() == picture()
    assert parts["decode"]().shape == (480, 640, 3)
    assert len(parts["postprocess"]()["result"]) == 5
    assert '"rectanglelabels"' in parts["serialise"]()


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ("fpu avx2 avx512f amx_bf16", "amx"),
        ("fpu avx2 avx512f avx512_bf16", "avx512"),
        ("fpu avx2", "avx2"),
        ("fpu", platform.machine()),
    ],
)
def test_results_are_kept_for_each_kind_of_processor(flags: str, kind: str) -> None:
    cpuinfo = f"processor\t: 0\nmodel name\t: A processor\nflags\t\t: {flags}\nbugs\t\t: amx_bf16\n"
    assert processor_kind(cpuinfo) == kind


def test_the_gpu_benchmark_measures_and_names_what_it_leaves_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU, with the demo model, as short as can be."""

    def missing(_: gpu.Plan) -> Figures:
        raise ModuleNotFoundError("No module named 'ray'")

    monkeypatch.setitem(gpu.PARTS, "service", missing)
    plan = gpu.Plan("cpu", "demo", batches=[1, 2], seconds=0.05)
    figures, left_out = gpu.measure(plan, ["engine", "sampler", "prepare", "service"])
    assert left_out == {"service": "No module named 'ray'"}
    assert {"float32_ready_s", "float32_1_ms", "float32_2_per_s"} <= figures.keys()
    assert {"sampler_torch_1_ms", "prepare_4000x3000_all_cores_per_s"} <= figures.keys()
    assert all(value > 0 for value in figures.values())
    assert "(service is left out: No module named 'ray')" in capsys.readouterr().out


def test_boxes_are_matched_by_place_and_counted() -> None:
    def boxes(*corners: tuple[float, ...], labels: list[int]) -> Detections:
        return Detections(
            boxes_xyxy=np.array(corners, np.float32).reshape(-1, 4),
            scores=np.ones(len(corners), np.float32),
            phrase_index=np.array(labels, np.int64),
            image_wh=(100, 100),
        )

    counts = Rounding()
    exact = boxes((0, 0, 10, 10), (20, 20, 40, 40), (60, 60, 90, 90), labels=[0, 1, 1])
    other = boxes((20, 20, 40, 43), (0, 0, 10, 11), (0, 60, 9, 69), labels=[0, 0, 1])
    counts.count(exact, other)
    counts.count(boxes(labels=[]), boxes((0, 0, 1, 1), labels=[0]))
    counts.count(boxes((0, 0, 1, 1), labels=[0]), boxes(labels=[]))
    assert (counts.boxes, counts.lost, counts.added, counts.relabelled) == (4, 2, 2, 1)
    assert counts.moved_px == [1.0, 3.0]
    assert counts.figures()["moved_mean_px"] == 2
