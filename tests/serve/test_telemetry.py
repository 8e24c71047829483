"""Traces as a collector receives them, and log lines as a collector of logs reads them: the service
on a Ray of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)

from deployments.placement import CPU_ENVIRONMENT
from prelabel.observability.spans import TraceSettings
from tests.support.paths import ROOT
from tests.support.processes import free_port
from tests.support.replicas import replicas
from tests.support.scenes import fresh
from tests.support.serve_process import serving
from tests.support.service_client import CONFIG, Service
from tests.support.web import CANARY, Web

PATIENCE_S = 30
SHIPPED = (ROOT / "serve_config.yaml").read_text()
BROKEN = "data:image/png;base64,bm8gcGljdHVyZQ=="
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECRET_HEADER = "canary-collector-key"


@dataclass(frozen=True)
class Span:
    name: str
    part: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, str | int]
    status: str
    seconds: float
    raw: str


@dataclass
class Collector:
    """heard: headers of each request; fails: it answers 500."""

    url: str
    spans: list[Span] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)

    def of_request(self, request_id: str, wanted: set[str], spans: int = 0) -> list[Span]:
        """Its trace's spans, once these names and so many of them have come: each process sends
        its own.
        """
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            traces = [s.trace for s in self.spans if s.attributes.get("request_id") == request_id]
            found = [span for span in self.spans if span.trace in traces]
            if len(found) >= spans and wanted <= {span.name for span in found}:
                assert len(traces) == 1
                return found
            time.sleep(0.1)
        raise TimeoutError([span.name for span in self.spans])


def decoded(content: bytes) -> Iterator[Span]:
    request = ExportTraceServiceRequest.FromString(content)
    for resource in request.resource_spans:
        names = {a.key: a.value.string_value for a in resource.resource.attributes}
        assert names["service.name"] == "shelf"
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    span.name,
                    scope.scope.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    {a.key: a.value.string_value or a.value.int_value for a in span.attributes},
                    span.status.message,
                    (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                    str(span),
                )


@contextmanager
def collecting() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            collector.heard.append(f"{self.path} {self.headers}")
            collector.spans += decoded(content)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Running:
    service: Service
    collector: Collector
    logs: Path

    def lines(self, deployment: str) -> list[dict[str, Any]]:
        """Return the log lines of all replicas."""
        files = self.logs.glob(f"replica_prelabel_{deployment}_*.log")
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def lines_of(self, deployment: str, request_id: str) -> list[dict[str, Any]]:
        """Log lines that carry the request's id, with the line of the request as a whole."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            lines = self.lines(deployment)
            found = [line for line in lines if line.get("request_id") == request_id]
            if any("failed" in line["message"] for line in found):
                return found
            time.sleep(0.1)
        raise TimeoutError(lines)


@pytest.fixture(scope="module")
def running(web: Web) -> Iterator[Running]:
    config = yaml.safe_load(SHIPPED.replace("encoding: &encoding TEXT", "encoding: &encoding JSON"))
    label_studio = {"LABEL_STUDIO_HOST": web.url, "LABEL_STUDIO_ACCESS_TOKEN": CANARY}
    with collecting() as collector:
        traces = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"{collector.url}/",
            "OTEL_EXPORTER_OTLP_HEADERS": f"x-key={SECRET_HEADER}",
            "OTEL_SERVICE_NAME": "shelf",
        }
        config["http_options"]["port"] = free_port()
        [application] = config["applications"]
        application["runtime_env"] = {"env_vars": label_studio | traces}
        application["args"] |= {"prompts": {"file": ""}, "model": {"device": "cpu"}}
        url = f"http://127.0.0.1:{config['http_options']['port']}"
        with serving(config) as logs, requests.Session() as session:
            session.trust_env = False
            yield Running(Service(url, session), collector, logs)


def ask(service: Service, request_id: str, *images: str, **headers: str) -> list[dict[str, Any]]:
    body = {
        "tasks": [{"id": 40 + i, "data": {"image": image}} for i, image in enumerate(images)],
        "project": "7.1",
        "label_config": CONFIG,
        "params": {"context": {"result": [prompt("canary prompt. red circle")]}},
    }
    headers = {"X-Request-ID": request_id} | headers
    answer = service.post("/predict", body, headers=headers)
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


def prompt(text: str) -> dict[str, Any]:
    return {
        "from_name": "prompt",
        "to_name": "image",
        "type": "textarea",
        "value": {"text": [text]},
    }


STAGES = ("fetch", "detect", "decode", "prepare", "queue", "forward", "postprocess", "regions")


class TestTraces:
    def test_a_request_is_one_trace_with_every_stage_under_it(self, running: Running) -> None:
        ask(running.service, "one", "/data/upload/1/canary-address.jpg")
        spans = running.collector.of_request("one", {"request", "task", "plan", *STAGES})
        by_id = {span.id: span for span in spans}

        def above(name: str) -> list[str]:
            [span] = [span for span in spans if span.name == name]
            names = []
            while span.parent:
                span = by_id[span.parent]
                names.append(span.name)
            return names

        assert above("request") == []
        assert above("plan") == above("fetch") == above("detect") == ["task", "request"]
        for stage in ("decode", "prepare", "queue", "forward"):
            assert above(stage) == ["detect", "task", "request"]
        assert above("regions") == ["postprocess", "task", "request"]
        parts = {span.name: span.part for span in spans}
        assert (parts["detect"], parts["forward"]) == ("prelabel.ingress", "prelabel.detector")
        assert parts["regions"] == "prelabel.postprocessor"
        [request] = [span for span in spans if span.name == "request"]
        assert request.attributes == {"request_id": "one", "tasks": 1, "project": "7.1"}
        assert all(0 <= span.seconds <= request.seconds for span in spans)

    def test_what_comes_together_stays_in_the_trace_of_its_own_request(
        self, running: Running
    ) -> None:
        names = [f"together-{i}" for i in range(4)]
        threads = [
            threading.Thread(target=ask, args=(Service(running.service.url), name, *fresh(3)))
            for name in names
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for name in names:
            wanted = 1 + 3 * len(("task", "plan", *STAGES))
            spans = running.collector.of_request(name, {"request", *STAGES}, wanted)
            counts = {stage: sum(span.name == stage for span in spans) for stage in STAGES}
            assert counts == dict.fromkeys(STAGES, 3)

    def test_spans_belong_to_the_trace_of_the_caller(self, running: Running) -> None:
        ask(running.service, "called", *fresh(), traceparent=PARENT)
        spans = running.collector.of_request("called", {"request", "forward"})
        _, trace, parent, _ = PARENT.split("-")
        [request] = [span for span in spans if span.name == "request"]
        assert (request.trace, request.parent) == (trace, parent)

    def test_a_caller_without_a_trace_gets_none(self, running: Running) -> None:
        ask(running.service, "unsampled", *fresh(), traceparent=f"{PARENT[:-2]}00")
        ask(running.service, "after", *fresh(), traceparent="no traceparent")
        spans = running.collector.of_request("after", {"request", "regions"})
        assert {span.trace for span in spans}.isdisjoint({PARENT.split("-")[1]})
        asked = {span.attributes.get("request_id") for span in running.collector.spans}
        assert "unsampled" not in asked

    def test_an_error_is_of_a_kind_and_no_more(self, running: Running) -> None:
        ask(running.service, "broken", BROKEN, "/data/missing/canary-address.jpg")
        spans = running.collector.of_request("broken", {"request"})
        kinds = {span.attributes["task_id"]: span.status for span in spans if span.name == "task"}
        assert kinds == {40: "ImageDecodeError", 41: "ImageFetchError"}

    def test_no_secret_address_or_prompt_is_in_a_trace(self, running: Running) -> None:
        ask(running.service, "canary", "/data/upload/1/canary-address-2.jpg")
        running.collector.of_request("canary", {"request", "regions"})
        told = "".join(span.raw for span in running.collector.spans)
        assert "canary-address" not in told
        assert "canary prompt" not in told
        assert CANARY not in told
        assert SECRET_HEADER not in told
        assert all(f"x-key: {SECRET_HEADER}" in heard for heard in running.collector.heard)
        assert all(heard.startswith("/v1/traces ") for heard in running.collector.heard)


def test_without_the_variable_the_exporter_is_not_imported() -> None:
    program = """
import sys, serve_app
from prelabel.settings import Environment
from prelabel.observability.tracing import open_tracer
tracer = open_tracer(Environment().traces, "ingress")
with tracer.span("request", tasks=1):
    assert tracer.capture().traceparent == ""
observe = print
assert tracer.beside(observe) is observe and tracer.stage is None
assert not [name for name in sys.modules if name.startswith("opentelemetry.exporter.otlp")]
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env={}, check=True, timeout=120)


def test_a_collector_that_does_not_answer_is_logged_once_and_delays_no_span(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from prelabel.observability.otlp import OtlpTracer

    tracer = OtlpTracer(TraceSettings(f"http://user:canary@127.0.0.1:{free_port()}", "shelf"), "x")
    for _ in range(2):
        logged = len(caplog.records)
        with tracer.span("request"):
            pass
        assert len(caplog.records) == logged, "a span waits for its export"
        tracer.flush()
    tracer.close()
    [line] = caplog.records
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in line.message
    assert "canary" not in caplog.text


@pytest.mark.parametrize(
    "path",
    [
        "serve_config.yaml",
        "serve_config.production.yaml",
        "deploy/kubernetes/cpu/serve_config.yaml",
        "deploy/kubernetes/gpu/serve_config.yaml",
    ],
)
def test_one_word_changes_the_encoding_of_all_logs(path: str) -> None:
    """A deployment's own logging_config takes nothing over from that of the whole."""
    config = yaml.safe_load((ROOT / path).read_text())
    if "spec" in config:
        config = yaml.safe_load(config["spec"]["serveConfigV2"])
    [application] = config["applications"]
    own = [
        each["logging_config"] for each in application["deployments"] if "logging_config" in each
    ]
    assert own
    assert {each["encoding"] for each in own} == {config["logging_config"]["encoding"]}


class TestLogs:
    """With `encoding: JSON`, each line is an object: other lines would not be parsed here."""

    def test_a_task_that_failed_is_found_by_its_request_and_its_id(self, running: Running) -> None:
        ask(running.service, "log-1", *fresh(), BROKEN)
        lines = running.lines_of("Ingress", "log-1")
        [failed] = [line for line in lines if line.get("task") == 41]
        assert failed["levelname"] == "WARNING"
        assert failed["deployment"] == "prelabel_Ingress"
        assert "ImageDecodeError" in failed["message"]
        assert failed["asctime"]
        assert any("2 tasks, 1 failed" in line["message"] for line in lines)

    def test_every_deployment_s_lines_are_objects(self, running: Running) -> None:
        for deployment in ("Ingress", "Detector", "Postprocessor", "PromptStore", "Journal"):
            lines = running.lines(deployment)
            assert lines
            assert all({"levelname", "asctime", "message"} <= set(line) for line in lines)

    def test_the_detector_s_own_lines_are_objects_too(self, running: Running) -> None:
        ready = [line for line in running.lines("Detector") if "is ready" in line["message"]]
        assert len(ready) == 2  # one of the detector, one of the segmenter
        for line in ready:
            assert line["filename"] == "device_models.py"
            assert "request_id" not in line


def test_a_detector_has_the_environment_that_its_place_gives_it(running: Running) -> None:
    """Beside the application's own variables, and from the start: glibc reads it only then."""
    environments = [
        (process / "environ").read_bytes().decode().split("\0")
        for process, name in replicas().items()
        if name == "Detector"
    ]
    [detector] = [found for found in environments if "OTEL_SERVICE_NAME=shelf" in found]
    assert {f"{name}={value}" for name, value in CPU_ENVIRONMENT.items()} <= set(detector)
