"""What surrounds every request: its id, its one log line, its one count, and a fixed answer for what nobody foresaw.

What comes over gRPC is surrounded by `service.api.oip.grpc_calls`, and ends here as well.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from starlette.requests import ClientDisconnect
from starlette.responses import Response

from models.errors import DeviceFailed, EngineUnavailable, GraftworkError, NotSupported, OutOfMemory, WorkerLost
from service.api.metrics import UNKNOWN, Metrics
from service.api.problems import error_response
from service.api.trace_context import TraceContext, trace_context
from service.http.scope import CONNECTION, REFUSAL
from service.log import AccessRecord

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from service.api.request_span import RequestSpan
    from service.api.tracing import Tracing

logger = logging.getLogger(AccessRecord.name)

RECORD = "graftwork.record"  # where a request's record is in its ASGI scope
CLIENT_GONE = 499  # nginx's number for a client that hung up; it is never sent

_CLOSE = (b"connection", b"close")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


@dataclass(kw_only=True, slots=True)
class RequestRecord:
    """What becomes known of a request on its way; kept in its ASGI scope under ``RECORD``.

    Attributes:
        trace: that it is a part of, where its caller says so.
        span: of it, where there are traces.
        model: set once the name is known to exist.
        key: the id of the key that it showed, once that is known.
        counted: a prediction request, which the metrics count.
        error: why it was not answered with a prediction.
    """

    request_id: str
    trace: TraceContext | None = None
    span: RequestSpan | None = None
    model: str = UNKNOWN
    version: str = UNKNOWN
    key: str | None = None
    counted: bool = False
    error: GraftworkError | None = None

    @property
    def who(self) -> str:
        """The caller, as `models.audit` has it."""
        return "anyone" if self.key is None else f"key:{self.key}"

    @property
    def log_fields(self) -> dict[str, str]:
        """What every line in the log that is about it says, in whatever process."""
        fields = {"request_id": self.request_id}
        if self.span is not None:
            fields["trace_id"], fields["span_id"] = self.span.trace_id, self.span.span_id
        elif self.trace is not None:
            fields["trace_id"] = self.trace.trace_id
        return fields


class Connection(Protocol):
    """The client's connection, as `service.http.connection` puts it into the scope of a request."""

    @property
    def has_waiting(self) -> bool:
        """Whether requests were read that wait for the answer to the one at hand."""


class Telemetry:
    """ASGI middleware, the outermost one.

    Args:
        metrics: what every prediction request is counted in.
        on_cut_off: called for each request that is cancelled before it was answered.

    Attributes:
        closing: every connection ends with the answer to the last request that was read of it.
        tracing: of every request, where that is wanted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, on_cut_off: Callable[[], None]) -> None:
        self._app = app
        self._metrics = metrics
        self._on_cut_off = on_cut_off
        self.closing = False
        self.tracing: Tracing | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[RECORD] = record = self.begin(scope["headers"], scope["path"])
        started = time.perf_counter()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", record.request_id.encode())]
                if self.closing and _is_last(scope):
                    message["headers"].append(_CLOSE)
            await send(message)

        try:
            if REFUSAL in scope:
                await refuse(scope, scope[REFUSAL])(scope, receive, send_with_id)
            else:
                await self._app(scope, receive, send_with_id)
        except asyncio.CancelledError:  # the server ends, and this request has outlasted the time to drain
            record.error = record.error or GraftworkError("cancelled")
            self._on_cut_off()
            raise
        except ClientDisconnect as gone:
            _let_go(gone)
            if REFUSAL in scope and status == 0:  # it is its request that broke off, not the connection
                await refuse(scope, scope[REFUSAL])(scope, receive, send_with_id)
            else:
                status, record.error = CLIENT_GONE, None
        except Exception:
            logger.exception("request failed", extra={"fields": record.log_fields})
            response = refuse(scope, GraftworkError("the server failed on this request; its log has the request id"))
            if status == 0:
                await response(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - started
            self.end(record, method=scope["method"], path=scope["path"], status=status, seconds=seconds)

    def begin(self, headers: Sequence[tuple[bytes, bytes]], path: str) -> RequestRecord:
        """The record of a request that has arrived, however it came.

        Args:
            headers: with names in lower case.
        """
        record = RequestRecord(request_id=request_id(headers), trace=trace_context(headers))
        if self.tracing is not None:
            record.span = self.tracing.begin(record.trace, path)
        return record

    def end(self, record: RequestRecord, *, method: str, path: str, status: int, seconds: float) -> None:
        """The one end of a request, however it came: its count, where it is a prediction, and its line in the log.

        Args:
            status: of HTTP; what came over gRPC has the one that stands for its own.
            seconds: since it arrived.
        """
        code = None if record.error is None else record.error.code
        if record.counted:
            self._metrics.observe_end(record.model, record.version, _outcome(status, record.error), code, seconds)
        if logger.isEnabledFor(logging.INFO):
            fields = {
                **record.log_fields,
                "method": method[:16],
                "path": path[:256],
                "status": status,
                "model": record.model,
                "version": record.version,
                "key": record.key,
                "code": code,
                "ms": round(seconds * 1000, 2),
            }
            logger.handle(AccessRecord(fields))
        if record.span is not None:
            record.span.end(record, method=method, status=status)
        if record.error is not None:
            _let_go(record.error)


def _is_last(scope: Scope) -> bool:
    connection: Connection | None = scope.get(CONNECTION)
    return connection is None or not connection.has_waiting


def _let_go(error: BaseException) -> None:
    """Forgets the functions that an error came through: they still hold the body, and the scope that holds the error.

    In such a circle, up to 16 MiB a refused request would wait for the garbage collector, which counts objects, not bytes.
    """
    error.__traceback__ = error.__context__ = error.__cause__ = None


def refuse(scope: Scope, error: GraftworkError, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to a request that gets an error, which its record holds from now on."""
    record: RequestRecord = scope[RECORD]
    record.error = error
    return error_response(error, path=scope["path"], request_id=record.request_id, headers=headers)


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The caller's ``X-Request-Id`` where it is harmless, else one of ours.

    Args:
        headers: with names in lower case.
    """
    for name, value in headers:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value.decode())
    return f"{random.getrandbits(128):032x}"  # an id, not a secret


def _outcome(status: int, error: GraftworkError | None) -> str:
    """By the error rather than the status that was sent, which is that of the dialect: TEI says 429 where we say 503."""
    status = status if error is None else error.status
    if 200 <= status < 300:
        return "ok"
    if status == CLIENT_GONE:
        return "disconnected"
    if status == 503:
        has_failed = isinstance(error, (WorkerLost, OutOfMemory, DeviceFailed, EngineUnavailable))
        return "failed" if has_failed else "shed"
    if status == 504:
        return "timeout"
    return "client_error" if 400 <= status < 500 or status == NotSupported.status else "failed"
