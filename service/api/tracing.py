"""Traces of requests, for whoever collects them with OpenTelemetry; imported with ``--traces`` only, after the fork.

The thread that exports them would not survive a fork, and their libraries are an extra.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import OTEL_SDK_DISABLED
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, set_span_in_context
from starlette.routing import Route

from service.api.request_span import MOST_PATH, RequestSpan
from service.api.trace_context import TraceContext

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0  # for the last spans, once all is answered: the parent waits two seconds longer than for answers
SELDOM_SECONDS = 60.0

# Probes come every few seconds, and are no requests of anybody.
_PROBES = frozenset(
    (
        *("/health", "/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/metrics"),
        *(f"/inference.GRPCInferenceService/{name}" for name in ("ServerLive", "ServerReady")),
        *(f"/grpc.health.v1.Health/{name}" for name in ("Check", "Watch")),
    )
)


class Tracing:
    """Makes the spans of requests.

    Args:
        provider: of OpenTelemetry: says which requests are sampled, and takes their spans.
        version: of Graftwork.
        routes: whose paths name what is asked over HTTP.
    """

    def __init__(self, provider: TracerProvider, version: str, routes: Sequence[Route]) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("graftwork", version)
        self._routes = routes

    @classmethod
    def to_collector(cls, version: str, routes: Sequence[Route]) -> Tracing | None:
        """To where OpenTelemetry's variables (``OTEL_...``) say, and as they say; a thread exports.

        Returns:
            Nothing where they say that there shall be none.

        Raises:
            ValueError: one of the variables is wrong.
        """
        if os.environ.get(OTEL_SDK_DISABLED, "").strip().lower() == "true":
            return None
        _be_quiet()
        resource = Resource.create({SERVICE_VERSION: version})
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: "graftwork"}))
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider, version, routes)

    def begin(self, parent: TraceContext | None, path: str) -> RequestSpan | None:
        """The span of a request that has arrived; none for a probe.

        Args:
            parent: what its caller says.
            path: that is asked for.
        """
        if path in _PROBES:
            return None
        return RequestSpan(self._tracer, _context(parent), path, self._route_of)

    def _route_of(self, path: str) -> str | None:
        if len(path) > MOST_PATH:  # no model has such a name
            return None
        return next((route.path_format for route in self._routes if route.path_regex.match(path)), None)

    def close(self) -> None:
        """Exports what is left, but does not wait for long: nobody may be there to take it."""
        closing = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(FLUSH_SECONDS)
        if closing.is_alive():
            logger.warning("the last traces could not be exported in time")


def _context(parent: TraceContext | None) -> Context:
    if parent is None:
        return Context()
    context = SpanContext(
        int(parent.trace_id, 16),
        int(parent.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(parent.flags & TraceFlags.SAMPLED),
        trace_state=TraceState.from_header([parent.state]),
    )
    return set_span_in_context(NonRecordingSpan(context), Context())


def _be_quiet() -> None:
    """The libraries say each time that the collector is not there, and of each caller that its ``tracestate`` is malformed."""
    for name in ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry.sdk._shared_internal"):
        logging.getLogger(name).addFilter(_Seldom())
    logging.getLogger("opentelemetry.trace.span").setLevel(logging.ERROR)


class _Seldom(logging.Filter):
    """Lets a line pass once a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + SELDOM_SECONDS
        return True
