"""The tracer that sends spans to an OpenTelemetry collector, by OTLP over HTTP.

Imported only if a collector is configured. A thread of the SDK sends the spans.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.re import parse_env_headers

from prelabel import __version__
from prelabel.observability.spans import Tracer, TraceSettings

logger = logging.getLogger(__name__)

_EXPORT_INTERVAL_MS = 1000
_MAX_QUEUED_SPANS = 16_384  # a bulk request has several spans for each task
_PROPAGATOR = TraceContextTextMapPropagator()


class OtlpTracer(Tracer):
    """Creates spans and sends them to the collector.

    A span holds only the type of an exception, because messages and tracebacks may quote addresses
    of pictures.
    """

    def __init__(self, settings: TraceSettings, component: str) -> None:
        # The exporter logs every failure with the collector's address, which may hold a password.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        headers = settings.headers.get_secret_value() if settings.headers else ""
        exporter = OTLPSpanExporter(
            f"{settings.endpoint}/v1/traces", headers=parse_env_headers(headers, liberal=True)
        )
        resource = {SERVICE_NAME: settings.service_name, SERVICE_VERSION: __version__}
        provider = TracerProvider(resource=Resource.create(resource))
        provider.add_span_processor(
            BatchSpanProcessor(
                OutageLog(exporter),
                max_queue_size=_MAX_QUEUED_SPANS,
                schedule_delay_millis=_EXPORT_INTERVAL_MS,
            )
        )
        self._tracer = provider.get_tracer(f"prelabel.{component}", __version__)
        self.stage = self._stage
        self.flush, self.close = provider.force_flush, provider.shutdown

    @contextmanager
    def span(self, name: str, /, **attributes: str | int | None) -> Iterator[None]:
        """Create a span of the block; an exception marks it as failed."""
        with self._tracer.start_as_current_span(
            name,
            attributes={key: value for key, value in attributes.items() if value is not None},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:
                span.set_status(trace.StatusCode.ERROR, type(error).__name__)
                raise

    @contextmanager
    def _remote_parent(self, traceparent: str) -> Iterator[None]:
        # An invalid traceparent gives an empty context, because clients may send any text.
        remote = _PROPAGATOR.extract({"traceparent": traceparent}, context.Context())
        token = context.attach(remote)
        try:
            yield
        finally:
            context.detach(token)

    def _traceparent(self) -> str:
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        return carrier.get("traceparent", "")

    def _stage(self, name: str, seconds: float) -> None:
        if trace.get_current_span().get_span_context().is_valid:
            ended = time.time_ns()
            began = ended - int(seconds * 1e9)
            self._tracer.start_span(name, start_time=began).end(ended)


class OutageLog(SpanExporter):
    """Wraps an exporter and logs the beginning and the end of an outage, once each."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export spans through the wrapped exporter."""
        result = self._exporter.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self._failing:
            logger.warning(
                "The collector at OTEL_EXPORTER_OTLP_ENDPOINT cannot be reached; the service "
                "continues without traces. Start the collector (OTLP over HTTP, usually port "
                "4318), or unset the variable."
            )
        elif self._failing and not failed:
            logger.info("The collector of traces can be reached again.")
        self._failing = failed
        return result

    def shutdown(self) -> None:
        """Shut the wrapped exporter down."""
        self._exporter.shutdown()
