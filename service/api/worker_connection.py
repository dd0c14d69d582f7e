"""The API process's side of one engine worker."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from models.errors import GraftworkError, WorkerLost, from_code
from service.api.quarantine import row_key
from service.flight_record import FlightRecord
from service.messages import (
    Answer,
    Cancel,
    Failure,
    FrameReader,
    Hello,
    Item,
    Load,
    Loaded,
    LoadFailed,
    Message,
    Predict,
    RemoteEngine,
    Report,
    Serving,
    Timings,
    Unload,
    pack,
)

logger = logging.getLogger(__name__)

MOST_LEFT = 256  # rows that are remembered after their clients: more than a worker can have in its hands


@dataclass(kw_only=True, slots=True)  # not frozen: one is made a request
class Reply:
    """What a worker answered.

    Attributes:
        payload: a JSON list of predictions, or the tensors that were asked for, one after the other.
        sizes: of each tensor, in bytes.
        truncated, tokens: see `service.messages.Answer`.
    """

    payload: bytes
    timings: Timings
    sizes: Sequence[int] = ()
    truncated: Sequence[int] = ()
    tokens: int = 0


class ConnectionLost(Exception):
    """The worker went away before it answered; another one may be asked.

    Attributes:
        suspects: those rows of the request that the worker had in its hands: each of them may have been the cause.
    """

    def __init__(self, suspects: frozenset[int] = frozenset()) -> None:
        super().__init__()
        self.suspects = suspects


class WorkerConnection(asyncio.Protocol):
    """One worker, from its hello to its end.

    Args:
        directory: where workers leave their flight records.
        on_message: called with the connection and each message that is not the answer to a question: hello, report, ...
        on_end: called once, with a connection that is lost.

    Attributes:
        hello: nothing until it came.
        loaded: the versions that it can answer for.
        settled: it has loaded (or refused) everything that it was first asked to.
        rows: rows that it owes.
        silent_ticks: how often `tick` was called since it was last heard.
        hung_ticks: how often in a row it was found busy for too long.
        busy_seconds, fleet: see `Report`, as they were last heard.
    """

    def __init__(
        self,
        directory: Path,
        on_message: Callable[[WorkerConnection, Message], None],
        on_end: Callable[[WorkerConnection], None],
    ) -> None:
        self.hello: Hello | None = None
        self.loaded: set[tuple[str, int]] = set()
        self.settled = False
        self.rows = 0
        self.silent_ticks = 0
        self.hung_ticks = 0
        self.busy_seconds = 0.0
        self.fleet: Sequence[RemoteEngine] = ()
        self._directory = directory
        self._on_message = on_message
        self._on_end = on_end
        self._frames = FrameReader()
        self._ids = itertools.count()
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._left: OrderedDict[tuple[int, int], tuple[bytes, bool]] = OrderedDict()
        self._in_hand: set[tuple[int, int]] = set()
        self._loads: dict[tuple[str, int], asyncio.Future[Serving | str | None]] = {}
        self._stale_loads: Counter[tuple[str, int]] = Counter()  # taken back, and not yet answered
        self._transport: asyncio.Transport | None = None
        self._unsent: list[Item] = []
        self._lost = False

    def __str__(self) -> str:
        hello = self.hello
        return "a worker" if hello is None else f"worker {hello.worker} (pid {hello.pid}, {hello.device})"

    # Questions

    def load(self, name: str, number: int) -> Coroutine[Any, Any, Serving | str | None]:
        """Has the worker load a version; it is asked now, so that an `unload` that comes later is later for it too.

        Returns:
            To be awaited: how it is computed, once it is loaded and checked, or the reason why it must not be served; None where
            it was unloaded meanwhile.

        Raises:
            WorkerLost: the worker went away meanwhile.
        """
        future = self._loads.get((name, number))
        if future is None and not self._lost:
            future = asyncio.get_running_loop().create_future()
            self._loads[name, number] = future
            self._write(Load(name=name, number=number))
        return self._until_loaded(future)

    async def _until_loaded(self, future: asyncio.Future[Serving | str | None] | None) -> Serving | str | None:
        if future is None:
            raise WorkerLost("the engine worker is gone")
        try:
            return await asyncio.shield(future)
        except ConnectionLost:
            raise WorkerLost("the engine worker was lost while it loaded a version") from None

    def unload(self, name: str, number: int) -> None:
        """Has the worker forget a version; a load that is under way ends without it."""
        self.loaded.discard((name, number))
        if (future := self._loads.pop((name, number), None)) is not None:
            self._stale_loads[name, number] += 1
            future.set_result(None)
        self._write(Unload(name=name, number=number))

    async def predict(self, request: Predict, items: Sequence[Item]) -> Reply:
        """Asks the worker, and takes the question back if nobody waits for the answer any more.

        Args:
            request: its id is given here.
            items: the instances, which are the payload.

        Raises:
            ConnectionLost: the worker went away.
            GraftworkError: what the worker says.
        """
        if self._lost:
            raise ConnectionLost
        request.id = next(self._ids)
        rows = len(items)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[request.id] = future
        self.rows += rows
        try:
            self._write(request, items)
            return await future
        finally:
            self.rows -= rows
            if self._waiting.pop(request.id, None) is not None:  # neither answered nor lost: cancelled
                self._write(Cancel(id=request.id))
                self._remember_rows_in_hand(request, items)

    def _write(self, message: Message, items: Sequence[Item] = ()) -> None:
        """Sends a message, unless the worker is gone: then `connection_lost` tells every future so.

        All messages of one turn of the event loop go in one system call, which wakes the worker once. Nothing waits here
        for the worker to read it: `backlog` says how much it has not read, and whoever asks does not ask for more then.
        """
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(pack(message, sum(map(len, items))))
        self._unsent += items

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport is not None and not self._transport.is_closing():
            with suppress(ConnectionError, RuntimeError):  # uvloop's error for a transport that a broken pipe closed
                self._transport.writelines(unsent)

    def backlog(self) -> int:
        """Bytes that were sent, but not yet taken by the worker; those of requests that were taken back are among them."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    # A hung worker

    def tick(self, busy_limit: float) -> None:
        """A second went by; the worker should have been heard meanwhile.

        Args:
            busy_limit: seconds that it may be busy with one row or batch.
        """
        self.silent_ticks += 1
        self.hung_ticks = self.hung_ticks + 1 if self.busy_seconds > busy_limit else 0

    def kill(self, why: str) -> None:
        """Ends the worker, which does not answer; the parent process replaces it."""
        assert self.hello is not None
        logger.error("%s is killed: %s", self, why)
        with suppress(ProcessLookupError):
            os.kill(self.hello.pid, signal.SIGKILL)

    # Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class does not derive from it

    def data_received(self, data: bytes) -> None:
        self.silent_ticks = 0
        for message, payload in self._frames.feed(data):
            match message:
                case Answer():
                    reply = Reply(
                        payload=payload,
                        timings=message.timings,
                        sizes=message.sizes,
                        truncated=message.truncated,
                        tokens=message.tokens,
                    )
                    self._settle(message.id, reply)
                case Failure():
                    self._settle(message.id, from_code(message.code, message.message, message.row))
                case Loaded():
                    self._settle_load(message.name, message.number, message.serving)
                    self._on_message(self, message)
                case LoadFailed():
                    self._settle_load(message.name, message.number, message.reason)
                case _:
                    if isinstance(message, Hello):
                        self.hello = message
                    elif isinstance(message, Report):
                        self.busy_seconds, self.fleet = message.busy_seconds, message.fleet
                    self._on_message(self, message)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self.loaded.clear()
        self._in_hand = self._read_flight_record()
        for request, waiting in self._waiting.items():
            if not waiting.done():
                waiting.set_exception(ConnectionLost(frozenset(row for id_, row in self._in_hand if id_ == request)))
        for load in self._loads.values():
            if not load.done():
                load.set_exception(ConnectionLost())
        self._waiting.clear()
        self._loads.clear()
        self._on_end(self)

    def left_in_hand(self) -> Sequence[tuple[bytes, bool]]:
        """Once it is lost: rows that it had in its hands, though their requests had been taken back.

        Returns:
            For each its key, and whether it was alone.
        """
        return [row for place, row in self._left.items() if place in self._in_hand]

    def _remember_rows_in_hand(self, request: Predict, items: Sequence[Item]) -> None:
        """A row that takes longer than its client waits may be about to end the worker, or to hang it."""
        for place in self._read_flight_record():
            if place[0] == request.id:
                self._left[place] = row_key(request.name, request.number, items[place[1]]), request.isolated
        while len(self._left) > MOST_LEFT:
            self._left.popitem(last=False)

    def _read_flight_record(self) -> set[tuple[int, int]]:
        if self.hello is None:
            return set()
        return FlightRecord.read(self._directory / f"flight-{self.hello.pid}")

    def _settle(self, request: int, outcome: Reply | GraftworkError) -> None:
        future = self._waiting.pop(request, None)
        if future is None or future.done():
            return
        if isinstance(outcome, Reply):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)

    def _settle_load(self, name: str, number: int, outcome: Serving | str) -> None:
        if self._stale_loads[name, number]:  # it answers in order: this is the answer to one that was taken back
            self._stale_loads[name, number] -= 1
            return
        future = self._loads.pop((name, number))
        if isinstance(outcome, Serving):
            self.loaded.add((name, number))
        future.set_result(outcome)
