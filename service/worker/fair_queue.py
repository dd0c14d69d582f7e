"""The order in which rows get their turn: fair between models, by priority and between requests within one."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from heapq import heapify, heappop, heappush, heapreplace
from typing import Generic, Protocol, TypeVar

URGENT, DEFAULT, BACKGROUND = 1, 2, 3
STEPS = {URGENT: 1, DEFAULT: 16, BACKGROUND: 256}  # of turns: levels get them in inverse proportion


def level_of(priority: int) -> int:
    """The level of a request's priority, as `service.messages.Predict` has it."""
    return min(priority, BACKGROUND) if priority > 0 else DEFAULT


class Flowing(Protocol):
    """A row of a request for a model.

    Attributes:
        flow: its model: flows get equal shares of the device.
        asker: the request that it is of, or the list whose part that is: its rows get their turns one after the other.
        level: of its priority, within its model only.
    """

    @property
    def flow(self) -> Hashable: ...

    @property
    def asker(self) -> Hashable: ...

    @property
    def level(self) -> int: ...


F = TypeVar("F", bound=Flowing)


class VirtualClock:
    """The time of start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): seconds of the device that each flow was due.

    Attributes:
        now: the start of the row that leads the batch taken last.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._finished: dict[Hashable, float] = {}

    def start(self, flow: Hashable) -> float:
        """When the next row of a flow is due."""
        return max(self.now, self._finished.get(flow, 0.0))

    def charge(self, flow: Hashable, until: float) -> None:
        """Its next row is not due before that."""
        self._finished[flow] = until

    def reset(self) -> None:
        """Nothing waits any more: nobody is owed anything."""
        self.now = 0.0
        self._finished.clear()


class FairQueue(Generic[F]):
    """Rows of one group.

    The next row is of the flow that is due first. Within a flow, levels of priority take turns: one that has just begun to
    wait is next if it is urgent, and in the background after sixteen rows of the default; while all levels wait, each gets
    sixteen times the rows of the one below. Within a level, requests get one row a round: the n-th row that a request has
    waiting is n rounds later than the first row of a request that comes now. So neither a model nor a request with many rows
    holds up one with few, urgent ones take from their own model only, and none starves: newcomers are never put before the
    round that is being taken, and no level before a turn that another one has had to wait for.

    Args:
        clock: shared by all groups.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._flows: dict[Hashable, _Levels[F]] = {}
        self._due: list[tuple[float, int, Hashable]] = []  # a heap: start, number of a row, flow
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, row: F, number: int) -> None:
        """Adds a row; numbers grow with each."""
        flow = row.flow
        levels = self._flows.get(flow)
        if levels is None:
            levels = self._flows[flow] = _Levels()
            heappush(self._due, (self._clock.start(flow), number, flow))
        levels.put(row, number)
        self._size += 1

    def next_due(self) -> tuple[float, int]:
        """The start of the next row, and its number: older rows come first among those that start then."""
        start, number, flow = self._due[0]
        while start < (now := self._clock.start(flow)):  # it was charged for rows of another group
            heapreplace(self._due, (now, number, flow))
            start, number, flow = self._due[0]
        return start, number

    def pop(self, seconds: Callable[[F], float]) -> tuple[tuple[float, int], F]:
        """The next row, after its start and number.

        Args:
            seconds: of the device that its flow is charged for it.
        """
        start, _ = self.next_due()
        flow = self._due[0][2]
        levels = self._flows[flow]
        number, row = levels.pop()
        end = start + seconds(row)
        self._clock.charge(flow, end)
        if levels:
            heapreplace(self._due, (end, levels.first_number, flow))
        else:
            heappop(self._due)
            del self._flows[flow]
        self._size -= 1
        return (start, number), row

    def discard(self, unwanted: Callable[[F], bool]) -> int:
        """Forgets rows; returns how many."""
        before = self._size
        for flow, levels in tuple(self._flows.items()):
            levels.discard(unwanted)
            if not levels:
                del self._flows[flow]
        self._due = [entry for entry in self._due if entry[2] in self._flows]
        heapify(self._due)
        self._size = sum(map(len, self._flows.values()))
        return before - self._size


class _Levels(Generic[F]):
    """The rows of one flow: self-clocked fair queueing between levels (Golestani, INFOCOM 1994)."""

    def __init__(self) -> None:
        self._rounds: dict[int, _Rounds[F]] = {}  # of levels in which rows wait
        self._turns: dict[int, int] = {}  # of the next row of each of them
        self._turn = 0  # of the row that was taken last

    def __len__(self) -> int:
        return sum(map(len, self._rounds.values()))

    def __bool__(self) -> bool:
        return bool(self._rounds)

    @property
    def first_number(self) -> int:
        """Of the next row."""
        return self._rounds[self._next_level()].first_number

    def _next_level(self) -> int:
        if len(self._turns) == 1:
            (level,) = self._turns
            return level
        return min(self._turns, key=lambda level: (self._turns[level], level))

    def put(self, row: F, number: int) -> None:
        level = row.level
        rounds = self._rounds.get(level)
        if rounds is None:
            rounds = self._rounds[level] = _Rounds()
            self._turns[level] = self._turn + STEPS[level]
        rounds.put(row, number)

    def pop(self) -> tuple[int, F]:
        level = self._next_level()
        rounds = self._rounds[level]
        self._turn = self._turns[level]
        taken = rounds.pop()
        if rounds:
            self._turns[level] += STEPS[level]
        else:
            self._forget(level)
        return taken

    def discard(self, unwanted: Callable[[F], bool]) -> None:
        for level, rounds in tuple(self._rounds.items()):
            rounds.discard(unwanted)
            if not rounds:
                self._forget(level)

    def _forget(self, level: int) -> None:
        del self._rounds[level], self._turns[level]


class _Rounds(Generic[F]):
    """The rows of one level of a flow."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, F]] = []  # a heap: round, number, row
        self._round = 0
        self._last: dict[Hashable, int] = {}  # the round of each asker's last row

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def first_number(self) -> int:
        """Of the next row."""
        return self._rows[0][1]

    def put(self, row: F, number: int) -> None:
        turn = self._last[row.asker] = max(self._last.get(row.asker, 0), self._round) + 1
        heappush(self._rows, (turn, number, row))

    def pop(self) -> tuple[int, F]:
        self._round, number, row = heappop(self._rows)
        if self._last[row.asker] == self._round:
            del self._last[row.asker]
        return number, row

    def discard(self, unwanted: Callable[[F], bool]) -> None:
        self._rows = [entry for entry in self._rows if not unwanted(entry[2])]
        heapify(self._rows)
        left = {row.asker for _, _, row in self._rows}
        self._last = {asker: turn for asker, turn in self._last.items() if asker in left}
