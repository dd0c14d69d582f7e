"""For how long a request is worked on: until its deadline, or until its client hangs up."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Protocol, Self

from starlette.requests import ClientDisconnect

from models.errors import DeadlineExceeded, InvalidParameter

HEADER = "x-request-timeout"


class Connection(Protocol):
    """The client's connection, as `service.http.connection` puts it into the scope of a request."""

    def on_disconnect(self, callback: Callable[[], None] | None) -> None:
        """Has ``callback`` called once if the client goes away before its request is answered."""


class Deadlines:
    """One timer for all requests: one for each would cost more than all else that is done about deadlines."""

    def __init__(self) -> None:
        self._waiting: set[Patience] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = math.inf  # never later than the first deadline

    def add(self, patience: Patience) -> None:
        """Ends it at its deadline, unless it is discarded before."""
        self._waiting.add(patience)
        if patience.deadline < self._rings_at:
            self._set(patience.deadline)

    def discard(self, patience: Patience) -> None:
        """Its work is done."""
        self._waiting.discard(patience)

    def _set(self, time_: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = time_
        self._timer = asyncio.get_running_loop().call_later(max(0.0, time_ - time.monotonic()), self._ring)

    def _ring(self) -> None:
        self._timer, self._rings_at = None, math.inf
        now = time.monotonic()
        for patience in [waiting for waiting in self._waiting if waiting.deadline <= now]:
            self._waiting.discard(patience)
            patience.expire()
        if self._waiting:
            self._set(min(patience.deadline for patience in self._waiting))


class Patience:
    """Cancels the work of the task in it when it is not worth doing any more; a context manager.

    Args:
        seconds: from now until the deadline.
        connection: of the client; without one, only the deadline counts.
        deadlines: those of all requests.

    Attributes:
        deadline: by the monotonic clock, in seconds.

    Raises:
        DeadlineExceeded: the deadline passed.
        ClientDisconnect: the client hung up.
    """

    def __init__(self, seconds: float, connection: Connection | None, deadlines: Deadlines) -> None:
        self.deadline = time.monotonic() + seconds
        self._seconds = seconds
        self._connection = connection
        self._deadlines = deadlines
        self._is_limited = False
        self._ended_by: Exception | None = None

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._deadlines.add(self)
        if self._connection is not None:
            self._connection.on_disconnect(self._hang_up)
        return self

    @property
    def seconds_left(self) -> float:
        """Until the deadline."""
        return self.deadline - time.monotonic()

    def limit(self, seconds: float) -> None:
        """Brings the deadline forward, to so many seconds after the start; one that is earlier stays."""
        self._is_limited = True
        if seconds < self._seconds:
            self.deadline += seconds - self._seconds
            self._seconds = seconds
            self._deadlines.add(self)

    def renew(self) -> None:
        """A part of the work is done: the rest has as long again, unless the client has said how long it waits."""
        if not self._is_limited:
            self.deadline = time.monotonic() + self._seconds

    def expire(self) -> None:
        """The deadline passed."""
        self._end(DeadlineExceeded(f"there was no answer within {self._seconds:g} s"))

    def _hang_up(self) -> None:
        self._end(ClientDisconnect())

    def _end(self, why: Exception) -> None:
        if self._ended_by is None:
            self._ended_by = why
            self._task.cancel()

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: object) -> None:
        self._deadlines.discard(self)
        if self._connection is not None:
            self._connection.on_disconnect(None)
        # The same account as that of asyncio.timeout: somebody else may have cancelled the task too.
        if self._ended_by is not None and self._task.uncancel() == 0 and isinstance(error, asyncio.CancelledError):
            raise self._ended_by from None


def timeout_seconds(header: str) -> float:
    """How long a client wants to wait at most.

    Args:
        header: the value of ``X-Request-Timeout``, a number of seconds.

    Raises:
        InvalidParameter: it is no positive number.
    """
    try:
        seconds = float(header)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        raise InvalidParameter("X-Request-Timeout must be a number of seconds above 0")
    return seconds
