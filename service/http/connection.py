"""One client connection: uvicorn's protocol class, with limits.

`RequestReader` reads requests; this half answers them in their order and ends the connection. A request that breaks a limit
is answered through the application like any other: the error is left in its scope under ``REFUSAL``, and `Telemetry` makes
of it a response, a line in the log and a count. After that the connection is deaf: it throws away what still comes.
"""

from __future__ import annotations

import asyncio
import fcntl
import termios
from array import array
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from models.errors import GraftworkError, RequestTimeout, TooManyConnections
from service.http.exchange import Exchange
from service.http.limits import ConnectionLimits
from service.http.request_reader import BODY, HEAD, NOTHING, RequestReader
from service.http.scope import CONNECTION, REFUSAL
from service.http.sweep import Sweep

_READ_AHEAD = 8  # requests before their turn; those that come in the same piece are read too
_REFUSED_AT_ONCE = 32  # clients beyond max_connections that get the time to read why


class ClientConnection(RequestReader):
    """One client connection.

    Args:
        limits: of this connection and of all together.
        sweep: one for all connections of a server.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: ConnectionLimits,
        sweep: Sweep,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop, limits=limits, sweep=sweep)
        self._current: RequestResponseCycle | None = None  # whose turn it is; the pipeline has those after it
        self._lingering = False
        self._unsent_bytes = 0
        self._stalled_seconds = 0.0
        self._gone = False
        self._on_disconnect: Callable[[], None] | None = None

    # Its life

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.write = transport.write
        self._since = self._sweep.now
        connections: set[Any] = self.connections
        self._sweep.watch(self.loop, connections)
        if len(connections) > self._limits.max_connections:
            self._refuse(TooManyConnections("there are too many connections; try again shortly, or keep fewer open"))

    def eof_received(self) -> None:
        self._lose_client()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose_client()
        super().connection_lost(exc)
        self.pipeline.clear()
        self.cycle = self._current = self.scope = None  # type: ignore[assignment]  # they refer to this object

    @property
    def has_waiting(self) -> bool:
        """Whether requests were read that wait for the answer to the one at hand."""
        return bool(self.pipeline)

    def _lose_client(self) -> None:
        for exchange in (self._current, *(waiting for waiting, _ in self.pipeline)):
            if exchange is not None and not exchange.response_complete:
                exchange.disconnected = True
                exchange.message_event.set()
        self._gone = True
        self._call_back()

    def on_disconnect(self, callback: Callable[[], None] | None) -> None:
        """Has ``callback`` called once if the client goes away before the request at hand is answered.

        Args:
            callback: called soon where the client is gone already; None takes the last one back.
        """
        self._on_disconnect = callback
        if callback is not None and self._gone:
            self.loop.call_soon(self._call_back)

    def _call_back(self) -> None:
        callback, self._on_disconnect = self._on_disconnect, None
        if callback is not None:
            callback()

    # Answers

    def _begin(self, *, keep_alive: bool) -> None:
        before = self.cycle
        scope = cast(dict[str, Any], self.scope)
        scope[CONNECTION] = self
        self.cycle = Exchange(
            scope=self.scope,
            transport=cast(asyncio.Transport, self),  # it is asked to write and to close, and whether it is closing
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )
        self._since = self._sweep.now
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.pipeline.appendleft((self.cycle, self.app))
            if len(self.pipeline) >= _READ_AHEAD:  # not at once: it is by reading that a client is seen to leave
                self.flow.pause_reading()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._current = cycle
        super()._start_asgi_task(cycle, app)

    def _refuse(self, error: GraftworkError) -> None:
        self._deaf = True
        if self._reading is NOTHING:
            self.on_message_begin()
        scope = cast(dict[str, Any], self.scope)
        scope[REFUSAL] = error
        if self._reading is BODY:  # its handler waits for it
            self.cycle.message_event.set()
        else:
            path, _, query = self.url.partition(b"?")
            method = self.parser.get_method().decode("ascii") if path else "-"
            scope.update(method=method, path=path.decode("latin-1"), raw_path=path, query_string=query)
            self._begin(keep_alive=False)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self._on_disconnect = None
        if self.is_closing():
            return
        if self._reading is not HEAD:
            self._since = self._sweep.now
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        if not self.pipeline:
            self.flow.resume_reading()

    # Its end

    def is_closing(self) -> bool:
        return self._lingering or self.transport.is_closing()

    def close(self) -> None:
        """Ends the connection in a way that lets the client read its answer.

        Were it just closed while the client still sends, the client's system would learn that nobody listens, and might
        throw the answer away unread (RFC 9112, 9.6).
        """
        if self.is_closing():
            return
        is_read = self._reading is NOTHING and not self._deaf
        is_crowded = len(self.connections) > self._limits.max_connections + _REFUSED_AT_ONCE
        if is_read or is_crowded or not self.transport.can_write_eof():
            self.transport.close()
            return
        self._deaf = self._lingering = True
        self._since = self._sweep.now
        self.transport.write_eof()
        self.flow.resume_reading()

    def check(self, step_seconds: float) -> None:
        """Called by the sweep."""
        self._check_writing(step_seconds)
        waited = self._sweep.now - self._since
        if self.transport.is_closing():
            return
        if self._lingering:
            if self._unsent_bytes:
                self._since = self._sweep.now
            elif waited > self._limits.linger_seconds:
                self.transport.close()
        elif self.flow.read_paused:  # it is not the client that keeps us waiting
            self._since += step_seconds
        elif not self._deaf:
            self._check_reading(waited)

    def _check_writing(self, step_seconds: float) -> None:
        """Cuts off a client that does not read its answer."""
        before, self._unsent_bytes = self._unsent_bytes, _unsent_bytes(self.transport)
        is_stalled = 0 < self._unsent_bytes >= before
        self._stalled_seconds = self._stalled_seconds + step_seconds if is_stalled else 0.0
        if self._stalled_seconds > self._limits.write_timeout_seconds:
            self.transport.abort()

    def _check_reading(self, waited: float) -> None:
        limits = self._limits
        if self._reading is HEAD:
            if waited > limits.header_timeout_seconds:
                self._refuse(RequestTimeout(f"the headers did not come within {limits.header_timeout_seconds:g} s"))
        elif self._reading is BODY:
            if self.cycle is not self._current and self.cycle.waiting_for_100_continue:
                return  # nobody has told it to send its body
            expected_bytes = (waited - limits.body_grace_seconds) * limits.body_bytes_per_second
            if waited > limits.body_timeout_seconds or self._body_bytes < expected_bytes:
                self._refuse(
                    RequestTimeout(
                        f"the body came too slowly; send it within {limits.body_timeout_seconds:g} s, "
                        f"and {limits.body_bytes_per_second:,} bytes a second at least"
                    )
                )
        elif self.cycle is None or self.cycle.response_complete:
            most = limits.header_timeout_seconds if self.cycle is None else limits.keep_alive_seconds
            if waited > most and not self._unsent_bytes:
                self.transport.close()


def _unsent_bytes(transport: asyncio.Transport) -> int:
    """What waits here and, if anything does, what waits in the kernel: it asks for more only when megabytes have gone."""
    here = transport.get_write_buffer_size()
    if here == 0:
        return 0
    in_kernel = array("i", [0])
    with suppress(OSError):  # Linux counts what was not acknowledged (SIOCOUTQ in tcp(7))
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, in_kernel)
    return here + in_kernel[0]
