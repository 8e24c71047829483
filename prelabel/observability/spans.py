"""Traces of requests, for those who give the address of an OpenTelemetry collector.

Without one a tracer makes nothing and nothing is imported for it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from pydantic import SecretStr

from prelabel.observability.timing import Observe

_NOTHING = nullcontext()


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """Where traces go: an OTLP collector's address, without path of a signal, and the headers that
    it wants (`name=value,...`). service_name: whose traces they are.
    """

    endpoint: str
    service_name: str
    headers: SecretStr | None = None


class Tracer:
    """Makes no spans; see prelabel/observability/otlp.py for the one that does."""

    stage: Observe | None = None  # makes a span, of the current one, of what has just ended

    def span(
        self, _name: str, _parent: str = "", /, **_attributes: str | int | None
    ) -> AbstractContextManager[None]:
        """Around a piece of work, which is the current span meanwhile. parent: a W3C traceparent
        from elsewhere, in place of the span that is current here.
        """
        return _NOTHING

    def within(self, _parent: str) -> AbstractContextManager[None]:
        """The span of that traceparent, which is another machine's, is the current one."""
        return _NOTHING

    def carried(self) -> str:
        """The current span's traceparent, to take along; empty where there is none."""
        return ""

    def beside(self, observe: Observe) -> Observe:
        """Tells the observer of stages, and makes spans of them."""
        if self.stage is None:
            return observe
        stage = self.stage

        def both(name: str, seconds: float) -> None:
            observe(name, seconds)
            stage(name, seconds)

        return both
