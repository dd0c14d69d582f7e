"""How much may be in flight: above it, requests are refused at once instead of waiting for long."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Self

from models.errors import Overloaded
from service.api.metrics import Metrics
from service.messages import Batch

MOST_SECONDS = 60  # of Retry-After
_WEIGHT = 0.1  # of a new batch in the averages


class Admission:
    """Counts rows and bytes from their arrival to their answer.

    A request is admitted while fewer than ``max_rows`` rows are in flight, so that even the largest one is admitted to an
    idle server. Bytes are counted as they arrive, not as they are announced: who sends slowly holds no more than he sent.

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
        self.bytes = 0
        self._room: asyncio.Event = asyncio.Event()
        metrics.rows_in_flight.set_function(lambda: self.rows)
        metrics.bytes_in_flight.set_function(lambda: self.bytes)

    def ticket(self) -> Ticket:
        """For one request; refused when the server is full already, before its body is read.

        Raises:
            Overloaded: try again later.
        """
        if self.rows >= self._max_rows:
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
        seconds = self.rows * self._seconds_a_batch / max(1.0, self._rows_a_batch) / self._workers
        return min(max(1, math.ceil(seconds)), MOST_SECONDS)

    def _take_rows(self, rows: int) -> None:
        if self.rows >= self._max_rows:
            raise self._overloaded()
        self.rows += rows

    def _take_bytes(self, size: int) -> None:
        if self.bytes + size > self._max_bytes:
            raise self._overloaded()
        self.bytes += size

    async def room(self) -> None:
        """Waits until there is room for more rows of a long list, and for others beside it: it never takes the last quarter."""
        while self.rows >= max(1, self._max_rows * 3 // 4):
            self._room.clear()
            await self._room.wait()

    def _release(self, rows: int, size: int) -> None:
        self.rows -= rows
        self.bytes -= size
        self._room.set()

    def _overloaded(self) -> Overloaded:
        return Overloaded("the server is full; try again later", retry_after_seconds=self.retry_after_seconds())


class Ticket:
    """What one request has in flight; a context manager that gives it back."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._rows = 0
        self._bytes = 0

    def take_rows(self, rows: int) -> None:
        """Raises: Overloaded: the server is full."""
        self._admission._take_rows(rows)
        self._rows += rows

    def give_rows(self, rows: int) -> None:
        """They are answered."""
        self._admission._release(rows, 0)
        self._rows -= rows

    async def wait_for_rows(self, rows: int) -> None:
        """Takes more rows once there is room for them."""
        await self._admission.room()
        self.take_rows(rows)

    def take_bytes(self, size: int) -> None:
        """Raises: Overloaded: the server is full."""
        self._admission._take_bytes(size)
        self._bytes += size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._admission._release(self._rows, self._bytes)
