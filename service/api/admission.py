"""How much may be in flight: above it, requests are refused at once instead of waiting for long."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Sequence
from typing import Self

from models.errors import Overloaded
from service.api.metrics import Metrics
from service.messages import Batch

MOST_SECONDS = 60  # of Retry-After
YIELDS_SECONDS = 1.0  # for which a part of a list leaves the last quarter to others
_WEIGHT = 0.1  # of a new batch in the averages


class Admission:
    """Counts rows and bytes from their arrival to their answer.

    A request is admitted while fewer than ``max_rows`` rows are in flight, so that even the largest one is admitted to an
    idle server. Lists, which may be far longer, wait: their rows get in a part at a time, as long as a quarter of the room is
    left to others (but for a part that has waited for a while), and a list is refused only where what waits before it would take longer than it waits. Bytes are counted as they arrive, not as they are announced: who sends slowly holds no more than he sent.

    Args:
        max_rows: in flight.
        max_bytes: of bodies in flight.
        workers: how many engine workers there shall be.
        metrics: told what is in flight.
    """

    def __init__(self, *, max_rows: int, max_bytes: int, workers: int, metrics: Metrics) -> None:
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._workers = workers
        self._seconds_a_batch = 0.0
        self._rows_a_batch = 0.0
        self.rows = 0
        self.waiting = 0  # rows of lists
        self.bytes = 0
        self._queue: deque[tuple[asyncio.Future[None], int, float]] = deque()  # of parts of lists: rows, and since when
        metrics.rows_in_flight.set_function(lambda: self.rows + self.waiting)
        metrics.bytes_in_flight.set_function(lambda: self.bytes)
        metrics.rows_limit.set(max_rows)
        metrics.bytes_limit.set(max_bytes)

    def ticket(self, *, waits: bool = False) -> Ticket:
        """For one request; refused when the server is full already, before its body is read.

        Args:
            waits: it is one that waits for room instead.

        Raises:
            Overloaded: try again later.
        """
        if not waits and self.rows >= self._max_rows:
            raise self._overloaded()
        return Ticket(self)

    def observe(self, batches: Sequence[Batch]) -> None:
        """Learns from computed batches how long a row takes.

        Seconds and rows are averaged apart: a row of a small batch takes longer, but there are few of them.
        """
        for batch in batches:
            weight = _WEIGHT if self._rows_a_batch else 1.0
            self._seconds_a_batch += (batch.seconds - self._seconds_a_batch) * weight
            self._rows_a_batch += (batch.rows - self._rows_a_batch) * weight

    def retry_after_seconds(self) -> int:
        """When what is in flight now will have been computed, by the measured rate."""
        return min(max(1, math.ceil(self._seconds_ahead())), MOST_SECONDS)

    def _seconds_ahead(self) -> float:
        rows = self.rows + self.waiting
        return rows * self._seconds_a_batch / max(1.0, self._rows_a_batch) / self._workers

    def _take_rows(self, rows: int) -> None:
        if self.rows >= self._max_rows:
            raise self._overloaded()
        self.rows += rows

    def _take_bytes(self, size: int) -> None:
        if self.bytes + size > self._max_bytes:
            raise self._overloaded()
        self.bytes += size

    def _announce(self, rows: int, seconds: float) -> None:
        if self._seconds_ahead() > seconds:
            raise self._overloaded()
        self.waiting += rows

    def _has_room_now(self) -> bool:
        return not self._queue and self.rows < self._max_rows

    async def _admit(self, rows: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((turn, rows, time.monotonic()))
        self._let_in()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was its turn just now
                self.waiting += rows
                self._release(rows, 0)
            raise

    def _let_in(self) -> None:
        """Parts of lists, in the order of their coming; those that are given up are passed over."""
        while self._queue:
            turn, rows, since = self._queue[0]
            if not turn.done():
                if not self._has_room(time.monotonic() - since):
                    return
                self.waiting -= rows
                self.rows += rows
                turn.set_result(None)
            self._queue.popleft()

    def _has_room(self, waited: float) -> bool:
        """For a part of a list: three quarters of all, or all of it where predictions have filled the rest for a while."""
        most = self._max_rows if waited >= YIELDS_SECONDS else max(1, self._max_rows * 3 // 4)
        return self.rows < most

    def _release(self, rows: int, size: int) -> None:
        self.rows -= rows
        self.bytes -= size
        self._let_in()

    def _overloaded(self) -> Overloaded:
        return Overloaded("the server is full; try again later", retry_after_seconds=self.retry_after_seconds())


class Ticket:
    """What one request has in flight; a context manager that gives it back."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._rows = 0
        self._waiting = 0
        self._bytes = 0

    def take_rows(self, rows: int) -> None:
        """Raises: Overloaded: the server is full."""
        self._admission._take_rows(rows)
        self._rows += rows

    def give_rows(self, rows: int) -> None:
        """They are answered."""
        self._admission._release(rows, 0)
        self._rows -= rows

    def announce_rows(self, rows: int, seconds: float) -> None:
        """There are so many rows in its list, and they have so long.

        Raises:
            Overloaded: what waits already takes longer.
        """
        self._admission._announce(rows, seconds)
        self._waiting += rows

    async def take_or_wait(self, rows: int, seconds: float) -> None:
        """Takes the rows of a request that is no long list, at once where there is any room; raises as `announce_rows`."""
        if self._admission._has_room_now():
            self.take_rows(rows)
        else:
            self.announce_rows(rows, seconds)
            await self.wait_for_rows(rows)

    async def wait_for_rows(self, rows: int) -> None:
        """Takes rows that were announced, once there is room for them."""
        await self._admission._admit(rows)
        self._waiting -= rows
        self._rows += rows

    def take_bytes(self, size: int) -> None:
        """Raises: Overloaded: the server is full."""
        self._admission._take_bytes(size)
        self._bytes += size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._admission.waiting -= self._waiting
        self._admission._release(self._rows, self._bytes)
