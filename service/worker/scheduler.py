"""Forms batches out of rows that wait for the device."""

from __future__ import annotations

import threading
from bisect import insort
from collections.abc import Hashable, Sequence
from math import inf
from typing import Generic, Protocol, TypeVar

from models.batch_cost import BatchCost
from service.worker.batch_limit import BatchLimit
from service.worker.batch_plan import BatchPlan
from service.worker.fair_queue import URGENT, FairQueue, Flowing, VirtualClock


class Waiting(Flowing, Protocol):
    """A row that waits for the device.

    Attributes:
        group: rows of one group may share a batch: backbone, engine, kind of features and shape, never the model's name.
        length: that it has before padding, in tokens; the rows of a batch are padded to the longest. Images have the length 1.
        rows: that it is in the device's batch, 1 or 2; of a pair that is two of them, the length is that of the longer one.
        cost: of the batches of its group.
        abandoned: nobody waits for its answer any more; it is not computed.
        share: of the device that its batch takes, up to 1: all of it.
    """

    @property
    def group(self) -> Hashable: ...

    @property
    def length(self) -> int: ...

    @property
    def rows(self) -> int: ...

    @property
    def cost(self) -> BatchCost: ...

    @property
    def abandoned(self) -> bool: ...

    @property
    def share(self) -> float: ...


W = TypeVar("W", bound=Waiting)

_ROUNDING = 1e-6


class Scheduler(Generic[W]):
    """Work-conserving: a batch starts as soon as the device has room for it and a row is ready; no timer.

    Each batch is led by the row that is due first of all (see `FairQueue`), so that neither a row nor a group starves, not even
    one that needs all of the device. Which rows of its group go along is a matter of what they cost (see `BatchPlan`). Where
    several batches fit beside each other, and nobody else is at work, they get equal parts of what waits. Rows are counted, not
    requests. Safe to use from several threads.

    Args:
        max_batch_rows: the largest batch.
    """

    def __init__(self, *, max_batch_rows: int) -> None:
        self._max_batch_rows = max_batch_rows
        self._clock = VirtualClock()
        self._groups: dict[Hashable, _Group[W]] = {}
        self._plans: dict[BatchCost, BatchPlan] = {}
        self._limits: dict[Hashable, BatchLimit] = {}  # of groups where a batch did not fit
        self._arrivals = 0
        self._dropped = 0
        self._idle = 0  # threads that wait in `take`
        self._load = 0.0  # share of the device that is taken
        self._closed = False
        self._changed = threading.Condition()

    def put(self, row: W) -> None:
        """Adds a row that is ready for the device."""
        with self._changed:
            group = self._groups.get(row.group)
            if group is None:
                group = self._groups[row.group] = _Group(self._clock, self._plan(row.cost), row.share)
            group.put(row, self._arrivals)
            self._arrivals += 1
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

    def too_large(self, batch: Sequence[W]) -> None:
        """A batch, or a part of one, did not fit into memory: those of its group are not made as large for a while."""
        with self._changed:
            group = batch[0].group
            limit = self._limits.setdefault(group, BatchLimit(group))
            limit.too_large(sum(row.rows for row in batch) * max(row.length for row in batch))

    def _next_batch(self) -> list[W]:
        """Nothing where nothing waits, or where there is no room yet for the group that is next."""
        while self._groups:
            key, group = min(self._groups.items(), key=lambda item: item[1].next_due())
            if self._load + group.share > 1 + _ROUNDING:
                return []
            limit = self._limits.get(key)
            batch, dropped = group.take(self._fair_part(group.rows, group.share), limit.tokens if limit else inf)
            self._dropped += dropped
            if not group:
                self._forget(key)
            if batch:
                if limit:
                    limit.count()
                return batch
        return []

    def _forget(self, key: Hashable) -> None:
        """A group in which nothing waits any more."""
        del self._groups[key]
        if not self._groups:
            self._clock.reset()

    def _plan(self, cost: BatchCost) -> BatchPlan:
        plan = self._plans.get(cost)
        if plan is None:
            plan = self._plans[cost] = BatchPlan(cost, self._max_batch_rows)
        return plan

    def _fair_part(self, rows: int, share: float) -> int:
        """How many of so many rows this thread takes, where others that are idle could take some too."""
        beside = min(self._idle, int((1 + _ROUNDING - self._load) / share) - 1) if share else 0
        return min(self._max_batch_rows, -(-rows // (1 + beside)))

    @property
    def waiting(self) -> int:
        """Rows that wait now."""
        with self._changed:
            return sum(map(len, self._groups.values()))

    def drop_abandoned(self) -> None:
        """Forgets rows that nobody waits for any more now, not when it is their turn: they hold memory."""
        with self._changed:
            for key, group in tuple(self._groups.items()):
                self._dropped += group.drop_abandoned()
                if not group:
                    self._forget(key)

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


class _Group(Generic[W]):
    """Rows that may share a batch: those that are due next, in order of length, and the queue behind them."""

    def __init__(self, clock: VirtualClock, plan: BatchPlan, share: float) -> None:
        self.share = share
        self.rows = 0  # of the device's batches, that wait
        self._queue: FairQueue[W] = FairQueue(clock)
        self._clock = clock
        self._plan = plan
        self._window: list[tuple[int, tuple[float, int], W]] = []  # length, start and number, row

    def __len__(self) -> int:
        return len(self._window) + len(self._queue)

    def put(self, row: W, number: int) -> None:
        """Adds a row; numbers grow with each."""
        self._queue.put(row, number)
        self.rows += row.rows

    def next_due(self) -> tuple[float, int]:
        """Of the row that is due first: its start, and a number among those that start then."""
        due = [entry[1] for entry in self._window]
        if self._queue:
            due.append(self._queue.next_due())
        return min(due)

    def take(self, most_rows: int, most_tokens: float) -> tuple[list[W], int]:
        """A batch with the row that is due first, in order of arrival, and how many rows were found abandoned."""
        while self._queue and len(self._window) < self._plan.window:
            due, row = self._queue.pop(self._seconds)
            if row.level == URGENT:
                due = (self._overtaking(row, due[0]), due[1])
            insort(self._window, (row.length, due, row))
        every = [entry[1] for entry in self._window]
        first = min(every)
        lead = every.index(first)
        self._clock.now = first[0]
        lengths = [entry[0] for entry in self._window]
        rows = [entry[2].rows for entry in self._window]
        chosen = self._plan.choose(lengths, rows, lead, most_rows=most_rows, most_tokens=most_tokens)
        entries = sorted(self._window[chosen], key=lambda entry: entry[1][1])
        del self._window[chosen]
        self.rows -= sum(rows[chosen])
        batch = [row for _, _, row in entries if not row.abandoned]
        return batch, len(entries) - len(batch)

    def _overtaking(self, urgent: W, start: float) -> float:
        """The start of an urgent row: that of the first row of its flow, of those that batches are chosen from, that is not urgent.

        It comes right behind that one, which is not overtaken again; rows that are urgent too stay where they are.
        """
        flow = urgent.flow
        return min([start, *(due[0] for _, due, row in self._window if row.flow == flow and row.level != URGENT)])

    def _seconds(self, row: W) -> float:
        return 0.0 if row.abandoned else row.rows * self._plan.row_seconds(row.length)

    def drop_abandoned(self) -> int:
        """Forgets them; returns how many."""

        def is_abandoned(row: W) -> bool:
            if not row.abandoned:
                return False
            self.rows -= row.rows
            return True

        before = len(self)
        self._window = [entry for entry in self._window if not is_abandoned(entry[2])]
        self._queue.discard(is_abandoned)
        return before - len(self)
