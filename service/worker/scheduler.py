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
    """

    @property
    def group(self) -> Hashable: ...

    @property
    def abandoned(self) -> bool: ...


W = TypeVar("W", bound=Waiting)


class Scheduler(Generic[W]):
    """Work-conserving: a batch starts as soon as the device is free and a row is ready; no timer.

    The next batch is of the group whose oldest row has waited longest, so that no group starves. Rows are counted, not
    requests. Safe to use from several threads.

    Args:
        max_batch_rows: the largest batch.
    """

    def __init__(self, *, max_batch_rows: int) -> None:
        self._max_batch_rows = max_batch_rows
        self._groups: dict[Hashable, deque[tuple[int, W]]] = {}
        self._arrivals = 0
        self._waiting = 0
        self._dropped = 0
        self._idle = False
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
        """Waits for rows and returns the next batch, in order of arrival; empty after `close`."""
        with self._changed:
            while True:
                while not self._groups and not self._closed:
                    self._idle = True
                    self._changed.wait()
                    self._idle = False
                if self._closed:
                    return []
                batch = self._next_batch()
                if batch:
                    return batch

    def _next_batch(self) -> list[W]:
        group = min(self._groups, key=lambda g: self._groups[g][0][0])
        queue = self._groups[group]
        batch: list[W] = []
        while queue and len(batch) < self._max_batch_rows:
            row = queue.popleft()[1]
            self._waiting -= 1
            if row.abandoned:
                self._dropped += 1
            else:
                batch.append(row)
        if not queue:
            del self._groups[group]
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
