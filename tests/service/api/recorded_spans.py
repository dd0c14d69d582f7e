"""Spans that an exporter in memory has, of a site whose requests are traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
V1, V2, OPENAI = "/v1/models/letters:predict", "/v2/models/letters/infer", "/v1/embeddings"
STAGES = ["decode", "queue", "compute"]
HELD_SECONDS = 0.2


class Recorded:
    """Spans that have ended."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()

    def requests(self) -> list[ReadableSpan]:
        """Those of requests, in the order of their ends."""
        return [span for span in self.exporter.get_finished_spans() if span.kind is SpanKind.SERVER]

    def request(self) -> ReadableSpan:
        """The only one."""
        (span,) = self.requests()
        return span

    def below(self, request: ReadableSpan) -> list[ReadableSpan]:
        """In the order of their starts; each lies within the request."""
        found = [span for span in self.exporter.get_finished_spans() if span.parent == request.context]
        for span in found:
            assert span.context.trace_id == request.context.trace_id
            assert times(request)[0] <= times(span)[0] <= times(span)[1] <= times(request)[1]
        return sorted(found, key=times)


def times(span: ReadableSpan) -> tuple[int, int]:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time, span.end_time


def described(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


Traced = Callable[..., None]
