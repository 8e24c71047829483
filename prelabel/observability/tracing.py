"""Opens the tracer of one deployment."""

from __future__ import annotations

from prelabel.observability.spans import Tracer, TraceSettings


def open_tracer(settings: TraceSettings | None, component: str) -> Tracer:
    """Return a tracer that sends to the collector; without settings, it creates none.

    Args:
        settings: The collector, None without one.
        component: Name of the deployment in the traces.
    """
    if settings is None:
        return Tracer()
    # OpenTelemetry takes 100 ms to import.
    from prelabel.observability.otlp import OtlpTracer

    return OtlpTracer(settings, component)
