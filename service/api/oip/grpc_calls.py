"""What surrounds every call over gRPC: who asks, its id, its one log line, its one count, and how errors become statuses.

A handler is called before the message is read, as over HTTP: whoever has no key is refused by then, and whoever sends slowly
is given up. That is why all methods are taken for streams, also those that have one message each way: on the wire, they do not
differ. Only health, which asks for no key, reads a message before anything else: `service.api.oip.grpc_health` bounds how many.

grpc has one limit for the messages of all methods, that of the largest tensors, and gathers a message before any of it is seen
here. The smaller limit of a method is looked at when its message is there: it bounds what is parsed, not what is gathered.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError, Message

from models.errors import (
    BodyTooLarge,
    DeadlineExceeded,
    GraftworkError,
    InvalidMessage,
    Overloaded,
    RateLimited,
    RequestTimeout,
    Unavailable,
)
from service.api.gate import Gate, Headers
from service.api.metrics import Metrics
from service.api.oip.grpc_scopes import MODEL_INFER, SCOPES
from service.api.telemetry import CLIENT_GONE, RequestRecord, Telemetry
from service.api.trace_context import HEADERS as TRACE_HEADERS
from service.auth.key import Scope
from service.settings import ServerSettings

logger = logging.getLogger(__name__)

Context: TypeAlias = Any  # grpc.aio.ServicerContext, which has no types

_READ = frozenset(("authorization", "x-api-key", "x-request-id", *(name.decode() for name in TRACE_HEADERS)))
_LATENCY_SECONDS = 0.1  # by which a client's clock may run out before ours does
_FAILED = "the server failed on this request; its log has the request id"

_STATUSES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
    507: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


def status_code(status: int) -> grpc.StatusCode:
    """The status of gRPC that stands for one of HTTP.

    Whatever else is wrong with a request is INVALID_ARGUMENT, also 413, "too large": clients that see RESOURCE_EXHAUSTED are
    often told to try again later, which helps those over their rate, and none of these.
    """
    return _STATUSES.get(status, grpc.StatusCode.INVALID_ARGUMENT if status < 500 else grpc.StatusCode.INTERNAL)


class Call:
    """A call on its way to its answer.

    Args:
        context: what grpc knows of it.
        headers: those of its metadata that are read, in lower case.
        record: what becomes known of it.
        max_bytes: of a message; one that is larger is refused when it is there.
        read_seconds: that a message may take.
    """

    __slots__ = ("_context", "_max_bytes", "_read_seconds", "headers", "record")

    def __init__(
        self, context: Context, headers: Headers, record: RequestRecord, *, max_bytes: int, read_seconds: float
    ) -> None:
        self._context = context
        self._max_bytes = max_bytes
        self._read_seconds = read_seconds
        self.headers = headers
        self.record = record

    def seconds_left(self) -> float | None:
        """Until the client's deadline; nothing where it has none."""
        left: float | None = self._context.time_remaining()
        return left

    async def read(self, max_seconds: float = math.inf) -> bytes:
        """The message of a call that has one.

        Args:
            max_seconds: that it may take, where that is less than a message of any method may.

        Raises:
            RequestTimeout: it did not come.
            InvalidMessage: there is none.
            BodyTooLarge: it is larger than messages of this method are.
        """
        message = await self.read_next(max_seconds)
        if message is None:
            raise InvalidMessage("the call has no message; send one")
        return message

    async def read_next(self, max_seconds: float = math.inf) -> bytes | None:
        """The next message of a call that may have more; nothing where there is none.

        Args:
            max_seconds: as `read`.

        Raises:
            RequestTimeout, BodyTooLarge: as `read`.
        """
        # In a task that nobody cancels: grpc writes what arrives to where the one that was waiting had wanted it.
        reading = asyncio.ensure_future(self._context.read())
        reading.add_done_callback(_look_at)
        seconds = min(max_seconds, self._read_seconds)
        await asyncio.wait((reading,), timeout=seconds)
        if not reading.done():
            raise RequestTimeout(f"the message did not come within {seconds:g} s")
        message = reading.result()
        if message is grpc.aio.EOF:
            return None
        if len(message) > self._max_bytes:
            raise BodyTooLarge(f"the message has {len(message):,} bytes, over the limit of {self._max_bytes:,}")
        return bytes(message)

    async def write(self, message: Message) -> None:
        """Sends one of several messages."""
        await self._context.write(message.SerializeToString())


Answer: TypeAlias = Callable[[Call], Awaitable[Message | None]]


def parse(kind: type[Message], data: bytes) -> Any:
    """A message.

    Raises:
        InvalidMessage: the bytes are none of this kind.
    """
    try:
        return kind.FromString(data)
    except DecodeError:
        raise InvalidMessage("the bytes are not the message that this method takes") from None


class Calls:
    """Makes handlers of methods that answer calls.

    Args:
        settings: limits.
        gate: who may call.
        metrics: what predictions are counted in.
        telemetry: where calls end, as requests over HTTP do.
        on_cut_off: called for each that is cancelled since the server's time to drain is over.

    Attributes:
        is_over: the time to drain is.
    """

    def __init__(
        self,
        settings: ServerSettings,
        gate: Gate,
        metrics: Metrics,
        telemetry: Telemetry,
        on_cut_off: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._gate = gate
        self._metrics = metrics
        self._telemetry = telemetry
        self._on_cut_off = on_cut_off
        self._open = 0
        self.is_over = False

    def unary(self, path: str, answer: Answer) -> grpc.RpcMethodHandler:
        """The handler of a method that is answered with one message."""
        return grpc.stream_unary_rpc_method_handler(self._surrounded(path, answer))

    def stream(self, path: str, answer: Answer) -> grpc.RpcMethodHandler:
        """The handler of a method whose answer writes messages, as many as it likes."""
        return grpc.stream_stream_rpc_method_handler(self._surrounded(path, answer))

    def _surrounded(self, path: str, answer: Answer) -> Callable[[object, Context], Awaitable[bytes | None]]:
        scope, is_prediction = SCOPES[path], path == MODEL_INFER
        max_bytes = self._settings.max_tensor_bytes if is_prediction else self._settings.max_json_bytes

        async def handler(_messages: object, context: Context) -> bytes | None:
            started = time.perf_counter()
            headers = _headers(context)
            record = self._telemetry.begin(headers, path)
            record.counted = is_prediction
            limits = self._settings.connections
            call = Call(context, headers, record, max_bytes=max_bytes, read_seconds=limits.body_timeout_seconds)
            context.set_trailing_metadata((("x-request-id", record.request_id),))
            data, status = None, 200
            if is_prediction:
                self._metrics.observe_begin()
            self._open += 1
            try:
                message = await self._answer(call, scope, answer)
                data = None if message is None else message.SerializeToString()
            except asyncio.CancelledError:
                status = self._why_cancelled(call)
                raise
            except GraftworkError as refusal:
                record.error, status = refusal, refusal.status
            except grpc.aio.BaseError:  # grpc has ended the call, and its task is about to learn that
                status = self._why_cancelled(call)
                raise asyncio.CancelledError from None
            except Exception:
                logger.exception("request failed", extra={"fields": record.log_fields})
                record.error, status = GraftworkError(_FAILED), 500
            finally:
                self._open -= 1
                seconds = time.perf_counter() - started
                if record.span is not None:
                    record.span.rpc_status = "OK" if status == 200 else status_code(status).name
                self._telemetry.end(record, method="gRPC", path=path, status=status, seconds=seconds)
            if (error := record.error) is not None:
                with suppress(grpc.aio.InternalError):  # nobody is there any more, or grpc has refused the call itself
                    await context.abort(status_code(status), f"{error.code}: {error.message}", _trailers(record, error))
            return data

        return handler

    async def _answer(self, call: Call, scope: Scope | None, answer: Answer) -> Message | None:
        if self._open > self._settings.max_grpc_calls:
            raise Overloaded("there are too many calls; try again later")
        self._gate.admit_call(call.headers, call.record, scope)
        return await answer(call)

    def _why_cancelled(self, call: Call) -> int:
        """The status for a call that grpc has cancelled; it is never sent."""
        left = call.seconds_left()
        if self.is_over:
            call.record.error = GraftworkError("cancelled")
            self._on_cut_off()
            return 500
        if left is not None and left < _LATENCY_SECONDS:
            call.record.error = DeadlineExceeded("the client's deadline has passed")
            return 504
        return CLIENT_GONE


def _headers(context: Context) -> Headers:
    found: list[tuple[bytes, bytes]] = []
    for name, value in context.invocation_metadata():
        if name in _READ:
            found.append((name.encode(), value.encode() if isinstance(value, str) else value))
    return found


def _trailers(record: RequestRecord, error: GraftworkError) -> Sequence[tuple[str, str]]:
    found = [("x-request-id", record.request_id)]
    if isinstance(error, (Unavailable, RateLimited)):
        found.append(("retry-after", str(error.retry_after_seconds)))
    return tuple(found)


def _look_at(reading: asyncio.Future[Any]) -> None:
    """Nobody may be waiting for it any more; an exception that nobody has looked at is complained of."""
    if not reading.cancelled():
        reading.exception()
