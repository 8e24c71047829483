"""Spans belong to their own caller, although the gate works for many callers at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextvars import ContextVar

import pytest
from pydantic import ValidationError

from prelabel.detection.batching import BatchGate
from prelabel.errors import DetectionError
from prelabel.observability.request_context import NO_REQUEST, RequestContext, request_id_scope
from prelabel.observability.spans import Tracer, TraceSettings
from prelabel.observability.tracing import open_tracer
from prelabel.settings import Environment

CALLER: ContextVar[str] = ContextVar("CALLER", default="nobody")


async def submit_as(gate: BatchGate[int, int], caller: str, item: int) -> int:
    CALLER.set(caller)
    with request_id_scope(caller):
        return await gate.submit(item, "alike")


def test_each_item_s_waiting_and_pass_are_told_in_its_caller_s_context() -> None:
    told: list[tuple[str, str]] = []

    async def run() -> None:
        gate: BatchGate[int, int] = BatchGate(
            list,
            max_batch_size=8,
            trace=lambda stage, seconds: told.append((CALLER.get(), stage)),
        )
        await gate.submit(0, "alike")  # batches grow after the first
        told.clear()
        callers = ("anna", "berta", "clara")
        tasks = [asyncio.create_task(submit_as(gate, caller, 1)) for caller in callers]
        await asyncio.gather(*tasks)

    asyncio.run(run())
    callers = ("anna", "berta", "clara")
    assert sorted(told) == sorted((c, s) for c in callers for s in ("forward", "queue"))


def test_a_failed_batch_is_logged_under_its_requests_and_in_no_caller_s_context(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[str] = []

    class Notes(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            seen.append(CALLER.get())
            return True

    def fails(items: Sequence[int]) -> Sequence[int]:
        raise RuntimeError("broken")

    async def run() -> None:
        gate: BatchGate[int, int] = BatchGate(fails, max_batch_size=8)
        with pytest.raises(DetectionError):
            await submit_as(gate, "anna", 1)

    notes = Notes()
    caplog.handler.addFilter(notes)
    try:
        asyncio.run(run())
    finally:
        caplog.handler.removeFilter(notes)
    [record] = caplog.records
    assert record.__dict__["request_id"] == "anna"
    assert seen == ["nobody"]


def test_without_a_collector_the_tracer_makes_nothing() -> None:
    tracer = open_tracer(Environment(_env_file=None).traces, "ingress")
    assert type(tracer) is Tracer
    assert tracer.stage is None
    assert tracer.beside(print) is print
    remote = RequestContext("r-1", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    with tracer.restore(remote), tracer.span("request", tasks=1):
        assert tracer.capture() == RequestContext("r-1", "")
    assert tracer.capture() == RequestContext(NO_REQUEST, "")


def test_the_collector_is_what_the_standard_variables_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "key=canary")
    traces = Environment().traces
    assert isinstance(traces, TraceSettings)
    assert (traces.endpoint, traces.service_name) == ("http://collector:4318", "prelabel")
    assert traces.headers is not None
    assert traces.headers.get_secret_value() == "key=canary"
    assert "canary" not in repr(traces)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shelf")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    assert Environment().traces is None


@pytest.mark.parametrize("address", ["collector:4318", "grpc://collector", "http://", "http://a b"])
def test_what_is_no_address_is_refused_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    with pytest.raises(ValidationError, match="is not an address such as"):
        Environment()
