"""Forms batches out of rows that wait for the device."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Hashable, Sequence
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    """A row that waits for the device.

    Attributes:
        group: rows of one group may share a batch: backbone, engine, kind of features and shape, never the model's name.
        abandoned: nobody waits for its answer any more; it is not computed.
        share: of the device that its batch takes, up to 1: all of it.
    """

    @property
    def group(self) -> Hashable: ...

    @property
    def abandoned(self) -> bool: ...

    @property
    def share(self) -> float: ...


W = TypeVar("W", bound=Waiting)

_ROUNDING = 1e-6


class Scheduler(Generic[W]):
    """Work-conserving: a batch starts as soon as the device has room for it and a row is ready; no timer.

    The next batch is of the group whose oldest row has waited longest, so that no group starves, not even one that needs all
    of the device. Where several batches fit beside each other, and nobody else is at work, they get equal parts of what
    waits. Rows are counted, not requests. Safe to use from several threads.

    Args:
        max_batch_rows: the largest batch.
    """

    def __init__(self, *, max_batch_rows: int) -> None:
        self._max_batch_rows = max_batch_rows
        self._groups: dict[Hashable, deque[tuple[int, W]]] = {}
        self._arrivals = 0
        self._waiting = 0
        self._dropped = 0
        self._idle = 0  # threads that wait in `take`
        self._load = 0.0  # share of the device that is taken
        self._closed = False
        self._changed = threading.Condition()

    def put(self, row: W) -> None:
        """Adds a row that is ready for the device."""
        with self._changed:
            self._groups.setdefault(row.group, deque()).append((self._arrivals, row))
            self._arrivals += 1
            self._waiting += 1
            if self._idle:
                self._changed.notify()

    def take(self) -> Sequence[W]:
        """Waits for rows and returns the next batch, in order of arrival; empty after `close`.

        Whoever takes a batch calls `done` with it.
        """
        with self._changed:
            while not self._closed:
                batch = self._next_batch()
                if batch:
                    self._load += batch[0].share
                    return batch
                self._idle += 1
                self._changed.wait()
                self._idle -= 1
            return []

    def done(self, batch: Sequence[W]) -> None:
        """The device is rid of a batch."""
        with self._changed:
            self._load -= batch[0].share
            if self._idle:
                self._changed.notify_all()

    def _next_batch(self) -> list[W]:
        """Nothing where nothing waits, or where there is no room yet for the group that is next."""
        while self._groups:
            group = min(self._groups, key=lambda g: self._groups[g][0][0])
            queue = self._groups[group]
            share = queue[0][1].share
            if self._load + share > 1 + _ROUNDING:
                return []
            batch = self._take_from(queue, self._fair_part(len(queue), share))
            if not queue:
                del self._groups[group]
            if batch:
                return batch
        return []

    def _fair_part(self, rows: int, share: float) -> int:
        """How many of so many rows this thread takes, where others that are idle could take some too."""
        beside = min(self._idle, int((1 + _ROUNDING - self._load) / share) - 1) if share else 0
        return min(self._max_batch_rows, -(-rows // (1 + beside)))

    def _take_from(self, queue: deque[tuple[int, W]], most: int) -> list[W]:
        batch: list[W] = []
        while queue and len(batch) < most:
            row = queue.popleft()[1]
            self._waiting -= 1
            if row.abandoned:
                self._dropped += 1
            else:
                batch.append(row)
        return batch

    @property
    def waiting(self) -> int:
        """Rows that wait now."""
        return self._waiting

    def drop_abandoned(self) -> None:
        """Forgets rows that nobody waits for any more now, not when it is their turn: they hold memory."""
        with self._changed:
            for group, queue in tuple(self._groups.items()):
                left = deque(entry for entry in queue if not entry[1].abandoned)
                self._dropped += len(queue) - len(left)
                self._waiting -= len(queue) - len(left)
                if left:
                    self._groups[group] = left
                else:
                    del self._groups[group]

    def dropped(self, rows: int) -> None:
        """Rows that were abandoned before they were put."""
        with self._changed:
            self._dropped += rows

    def take_dropped(self) -> int:
        """Rows that were abandoned since this was asked last."""
        with self._changed:
            dropped, self._dropped = self._dropped, 0
            return dropped

    def close(self) -> None:
        """Lets `take` return for good."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
