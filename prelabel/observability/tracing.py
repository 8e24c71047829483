"""The tracer of one part of the service."""

from __future__ import annotations

from prelabel.observability.spans import Tracer, TraceSettings


def open_tracer(settings: TraceSettings | None, part: str) -> Tracer:
    """Of one part of the service: a tracer that sends to the collector, where there is one."""
    if settings is None:
        return Tracer()
    from prelabel.observability.otlp import OtlpTracer

    return OtlpTracer(settings, part)
