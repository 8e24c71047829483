"""Spans to a collector by OTLP over HTTP, in a thread of their own. Imported only with one."""

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

_SENT_EVERY_MS = 1000
_KEPT_SPANS = 16_384  # until they are sent; a bulk request has some for each task
_PROPAGATOR = TraceContextTextMapPropagator()


class OtlpTracer(Tracer):
    """See Tracer. Spans hold what is passed to them, and of errors the kind alone: sentences and
    tracebacks may quote addresses.
    """

    def __init__(self, settings: TraceSettings, part: str) -> None:
        # It would say so every time, with the address, which may hold a password.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        headers = settings.headers.get_secret_value() if settings.headers else ""
        exporter = OTLPSpanExporter(
            f"{settings.endpoint}/v1/traces", headers=parse_env_headers(headers, liberal=True)
        )
        resource = {SERVICE_NAME: settings.service_name, SERVICE_VERSION: __version__}
        provider = TracerProvider(resource=Resource.create(resource))
        provider.add_span_processor(
            BatchSpanProcessor(
                ComplainsOnce(exporter),
                max_queue_size=_KEPT_SPANS,
                schedule_delay_millis=_SENT_EVERY_MS,
            )
        )
        self._tracer = provider.get_tracer(f"prelabel.{part}", __version__)
        self.stage = self._stage
        self.flush, self.close = provider.force_flush, provider.shutdown

    @contextmanager
    def span(
        self, name: str, parent: str = "", /, **attributes: str | int | None
    ) -> Iterator[None]:
        """Around a piece of work."""
        with self._tracer.start_as_current_span(
            name,
            _context_of(parent) if parent else None,
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
    def within(self, parent: str) -> Iterator[None]:
        """Of another machine."""
        token = context.attach(_context_of(parent))
        try:
            yield
        finally:
            context.detach(token)

    def carried(self) -> str:
        """To take along."""
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        return carrier.get("traceparent", "")

    def _stage(self, name: str, seconds: float) -> None:
        if trace.get_current_span().get_span_context().is_valid:
            ended = time.time_ns()
            began = ended - int(seconds * 1e9)
            self._tracer.start_span(name, start_time=began).end(ended)


def _context_of(traceparent: str) -> context.Context:
    """What is none is passed over: strangers send it, too."""
    return _PROPAGATOR.extract({"traceparent": traceparent}, context.Context())


class ComplainsOnce(SpanExporter):
    """An exporter that says once that it cannot send, and once that it can again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send them."""
        result = self._exporter.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self._failing:
            logger.warning(
                "Traces do not reach the collector at OTEL_EXPORTER_OTLP_ENDPOINT; the service "
                "goes on without them. Start the collector (OTLP over HTTP, usually port 4318), "
                "or unset the variable."
            )
        elif self._failing and not failed:
            logger.info("Traces reach the collector again.")
        self._failing = failed
        return result

    def shutdown(self) -> None:
        """Send nothing more."""
        self._exporter.shutdown()
