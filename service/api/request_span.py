"""A request as OpenTelemetry sees it: a span, and below it what became of it in a worker.

Workers know nothing of traces. They say with an answer how long its stages took, which lie one after the other before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context

from service.api.metrics import UNKNOWN
from service.api.telemetry import CLIENT_GONE
from service.log import redacted

if TYPE_CHECKING:
    from service.api.telemetry import RequestRecord
    from service.messages import Timings

MOST_PARTS = 64  # of a list, that get a span of their own
MOST_PATH = 256  # characters of a path that are noted

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What a worker was asked for a request: all of it, or a part of a list.

    Attributes:
        started, ended: by `time.perf_counter`, seconds.
        timings: nothing where there is no answer.
    """

    started: float
    ended: float
    rows: int
    timings: Timings | None


class RequestSpan:
    """The span of a request that has just arrived, until it ends.

    Args:
        tracer: makes it.
        parent: what it is a part of.
        path: that is asked for.
        route_of: how a path is declared, such as ``/v1/models/{name}:predict``; nothing where it is not.

    Attributes:
        trace_id, span_id: in hexadecimal digits.
        rpc_status: the name of its status, of what came over gRPC; nothing else has one.
    """

    def __init__(self, tracer: Tracer, parent: Context, path: str, route_of: Callable[[str], str | None]) -> None:
        # All times are taken by a clock that never jumps, and placed by what the wall's clock says now.
        self._started = time.perf_counter()
        self._started_ns = time.time_ns()
        self._tracer = tracer
        self._span: Span = tracer.start_span("request", parent, SpanKind.SERVER, start_time=self._started_ns)
        self._path = path
        self._route_of = route_of
        self._asked: list[Asked] = []
        self._parts = 0
        self._rows = 0
        context = self._span.get_span_context()
        self.trace_id = f"{context.trace_id:032x}"
        self.span_id = f"{context.span_id:016x}"
        self.rpc_status: str | None = None

    def asked(self, rows: int, started: float, timings: Timings | None) -> None:
        """A worker has answered, or is not waited for any more.

        Args:
            rows: that it was asked for.
            started: when, by `time.perf_counter`.
            timings: nothing where there is no answer.
        """
        if self._span.is_recording():
            self._parts += 1
            self._rows += rows
            if self._parts <= MOST_PARTS:
                self._asked.append(Asked(started=started, ended=time.perf_counter(), rows=rows, timings=timings))

    def end(self, record: RequestRecord, *, method: str, status: int) -> None:
        """The request has ended.

        Args:
            status: of HTTP; what came over gRPC has the one that stands for its own.
        """
        if not self._span.is_recording():
            return
        attributes: dict[str, str | int] = {"graftwork.request_id": record.request_id}
        if record.model != UNKNOWN:
            attributes |= {"graftwork.model": record.model, "graftwork.version": record.version}
        if self._parts:
            attributes["graftwork.rows"] = self._rows
        if self._parts > 1:
            attributes["graftwork.parts"] = self._parts
        if self.rpc_status is not None:
            name, described = self._path[1:], self._grpc(self.rpc_status)
        else:
            name, described = self._http(method, status)
        error = record.error
        if error is not None or status == CLIENT_GONE:
            attributes["error.type"] = "client_disconnected" if error is None else error.code
        # By the error, not by the status that was sent, which is that of the dialect: see `service.api.telemetry`.
        if status == CLIENT_GONE or (status if error is None else error.status) >= 500:
            self._span.set_status(StatusCode.ERROR)
        self._span.update_name(name)
        self._span.set_attributes({**described, **attributes})
        self._add_asked()
        self._span.end(self._at(time.perf_counter()))

    def _grpc(self, status: str) -> Mapping[str, str | int]:
        return {"rpc.system.name": "grpc", "rpc.method": self._path[1:], "rpc.response.status_code": status}

    def _http(self, method: str, status: int) -> tuple[str, Mapping[str, str | int]]:
        route, known = self._route_of(self._path), method in _METHODS
        attributes: dict[str, str | int] = {
            "http.request.method": method if known else "_OTHER",
            "url.scheme": "http",
            "url.path": redacted(self._path[:MOST_PATH]),
        }
        if route is not None:
            attributes["http.route"] = route
        if status not in (0, CLIENT_GONE):  # something was sent
            attributes["http.response.status_code"] = status
        return " ".join(filter(None, (method if known else "HTTP", route))), attributes

    def _add_asked(self) -> None:
        below = set_span_in_context(self._span)
        for asked in self._asked:
            if self._parts > 1:
                self._add_part(below, asked)
            elif asked.timings is not None:
                self._add_stages(below, asked, asked.timings)

    def _add_part(self, below: Context, part: Asked) -> None:
        attributes: dict[str, float] = {"graftwork.rows": part.rows}
        if (timings := part.timings) is not None:
            attributes["graftwork.decode_seconds"] = timings.decode
            attributes["graftwork.queue_seconds"] = timings.queue
            attributes["graftwork.compute_seconds"] = timings.compute
        self._add("part", below, part.started, part.ended, attributes)

    def _add_stages(self, below: Context, asked: Asked, timings: Timings) -> None:
        """The stages up to the answer, one after the other.

        What is left before them is the way to the worker, and the wait for one of its threads to decode. The times need not all
        be of one row, each being that of the slowest; where they are longer together than the whole, the first ones are cut.
        """
        end = asked.ended
        for stage, seconds in (("compute", timings.compute), ("queue", timings.queue), ("decode", timings.decode)):
            start = max(asked.started, end - seconds)
            self._add(stage, below, start, end, {})
            end = start

    def _add(self, name: str, below: Context, start: float, end: float, attributes: Mapping[str, float]) -> None:
        span = self._tracer.start_span(name, below, attributes=attributes, start_time=self._at(start))
        span.end(self._at(end))

    def _at(self, moment: float) -> int:
        """A moment by `time.perf_counter`, in nanoseconds since 1970."""
        return self._started_ns + round((moment - self._started) * 1e9)
