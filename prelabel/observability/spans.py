"""The interface of a tracer, and the tracer that is used without an OpenTelemetry collector."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from pydantic import SecretStr

from prelabel.observability.request_context import (
    RequestContext,
    current_request_id,
    request_id_scope,
)
from prelabel.observability.timing import Observe

_NO_SPAN = nullcontext()


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """The OTLP collector that receives the traces.

    Attributes:
        endpoint: Address of the collector, without the path of a signal.
        service_name: Name of the service in its traces.
        headers: Headers that the collector requires, as `name=value,...`.
    """

    endpoint: str
    service_name: str
    headers: SecretStr | None = None


class Tracer:
    """Carries the request context to other processes, and creates no spans.

    `prelabel.observability.otlp.OtlpTracer` creates them.

    Attributes:
        stage: Creates a span of a stage that has just ended, below the current span; None if no
            spans are created.
    """

    stage: Observe | None = None

    def span(self, _name: str, /, **_attributes: str | int | None) -> AbstractContextManager[None]:
        """Return a context manager whose block is one span, the current one inside the block."""
        return _NO_SPAN

    def capture(self) -> RequestContext:
        """Return the request id and the current span, to be restored in another process."""
        return RequestContext(current_request_id(), self._traceparent())

    @contextmanager
    def restore(self, context: RequestContext) -> Iterator[None]:
        """Set the request id and the parent span that another process captured, for the block."""
        with request_id_scope(context.request_id), self._remote_parent(context.traceparent):
            yield

    def beside(self, observe: Observe) -> Observe:
        """Return an observer that calls `observe` and creates a span of each stage."""
        if self.stage is None:
            return observe
        stage = self.stage

        def both(name: str, seconds: float) -> None:
            observe(name, seconds)
            stage(name, seconds)

        return both

    def _traceparent(self) -> str:
        return ""

    def _remote_parent(self, _traceparent: str) -> AbstractContextManager[None]:
        return _NO_SPAN
