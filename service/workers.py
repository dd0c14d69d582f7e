"""The API process's side of the engine workers: who is there, what they hold, what they owe."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from models.errors import GraftworkError, NotReady, WorkerLost, from_code
from service.messages import (
    PREFIX,
    Answer,
    Cancel,
    Failure,
    Hello,
    Load,
    Loaded,
    LoadFailed,
    Message,
    Predict,
    Timings,
    Unload,
    pack,
    unpack,
)
from service.metrics import Metrics

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a worker answered.

    Attributes:
        predictions: a JSON list, as bytes.
    """

    predictions: bytes
    timings: Timings


class _ConnectionLost(Exception):
    """The worker went away before it answered; another one may be asked."""


class WorkerConnection:
    """One connected worker.

    Attributes:
        loaded: the versions that it can answer for.
        settled: it has loaded (or refused) everything that it was first asked to.
        rows: rows that it owes.
    """

    def __init__(
        self, hello: Hello, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, metrics: Metrics
    ) -> None:
        self.hello = hello
        self.loaded: set[tuple[str, int]] = set()
        self.settled = False
        self.rows = 0
        self._reader = reader
        self._writer = writer
        self._metrics = metrics
        self._ids = itertools.count()
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._loads: dict[tuple[str, int], asyncio.Future[str | None]] = {}
        self._lost = False

    async def load(self, name: str, number: int) -> str | None:
        """Has the worker load a version.

        Returns:
            Nothing once it is loaded and checked, or the reason why it must not be served.

        Raises:
            WorkerLost: the worker went away meanwhile.
        """
        if self._lost:
            raise WorkerLost("the engine worker is gone")
        future = self._loads.get((name, number))
        if future is None:
            future = asyncio.get_running_loop().create_future()
            self._loads[name, number] = future
            self._write(Load(name=name, number=number))
        try:
            return await asyncio.shield(future)
        except _ConnectionLost:
            raise WorkerLost("the engine worker was lost while it loaded a version") from None

    def unload(self, name: str, number: int) -> None:
        """Has the worker forget a version; a load that is under way ends without it."""
        self.loaded.discard((name, number))
        self._settle_load(name, number, "it was unloaded before it was ready")
        self._write(Unload(name=name, number=number))

    async def predict(self, request: Predict, payload: bytes) -> Reply:
        """Asks the worker, and takes the question back if nobody waits for the answer any more."""
        if self._lost:
            raise _ConnectionLost
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        rows = len(request.sizes)
        self._waiting[request.id] = future
        self.rows += rows
        try:
            self._write(request, payload)
            with suppress(ConnectionError):  # `listen` sees the loss too, and tells the future
                await self._writer.drain()
            return await future
        finally:
            self.rows -= rows
            if self._waiting.pop(request.id, None) is not None:  # neither answered nor lost: cancelled
                self._write(Cancel(id=request.id))

    def _write(self, message: Message, payload: bytes = b"") -> None:
        """Sends a message, unless the worker is gone: then `listen` tells every future so."""
        with suppress(ConnectionError, RuntimeError):  # uvloop's error for a transport that a broken pipe closed
            self._writer.write(pack(message, payload))

    def next_id(self) -> int:
        return next(self._ids)

    async def listen(self) -> None:
        """Handles the worker's messages until it goes away, and then everything that it still owes."""
        try:
            while True:
                header_size, payload_size = PREFIX.unpack(await self._reader.readexactly(PREFIX.size))
                message = unpack(await self._reader.readexactly(header_size))
                self._handle(message, await self._reader.readexactly(payload_size))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._lost = True
            self.loaded.clear()
            futures: list[asyncio.Future[Any]] = [*self._waiting.values(), *self._loads.values()]
            for future in futures:
                if not future.done():
                    future.set_exception(_ConnectionLost())
            self._waiting.clear()
            self._loads.clear()
            self._writer.close()

    def _handle(self, message: Message, payload: bytes) -> None:
        match message:
            case Answer():
                self._metrics.observe_batches(self.hello.worker, message.batches, message.waiting)
                self._settle(message.id, Reply(predictions=payload, timings=message.timings))
            case Failure():
                self._metrics.observe_batches(self.hello.worker, message.batches, message.waiting)
                self._settle(message.id, from_code(message.code, message.message))
            case Loaded():
                self._settle_load(message.name, message.number, None)
            case LoadFailed():
                self._settle_load(message.name, message.number, message.reason)
            case _:
                logger.error("unexpected message %r", message.kind)

    def _settle(self, request: int, outcome: Reply | GraftworkError) -> None:
        future = self._waiting.pop(request, None)
        if future is None or future.done():
            return
        if isinstance(outcome, Reply):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)

    def _settle_load(self, name: str, number: int, reason: str | None) -> None:
        future = self._loads.pop((name, number), None)
        if future is None:
            return  # unloaded meanwhile
        if reason is None:
            self.loaded.add((name, number))
        future.set_result(reason)


class WorkerPool:
    """All connected workers.

    Args:
        metrics: told of batches and of workers that come and go.
        on_connect: awaited, beside everything else, for each worker that connects.
    """

    def __init__(self, metrics: Metrics, on_connect: Callable[[WorkerConnection], Awaitable[None]]) -> None:
        self._metrics = metrics
        self._on_connect = on_connect
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections: list[WorkerConnection] = []

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one worker's connection, from its hello to its end, in a task."""
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            header_size, payload_size = PREFIX.unpack(await reader.readexactly(PREFIX.size))
            hello = unpack(await reader.readexactly(header_size + payload_size))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            return
        assert isinstance(hello, Hello)
        connection = WorkerConnection(hello, reader, writer, self._metrics)
        self.connections.append(connection)
        self._metrics.workers.set(len(self.connections))
        logger.info("worker %d (pid %d, %s) connected", hello.worker, hello.pid, hello.device)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(connection.listen())
                tasks.create_task(self._settle(connection))
            logger.warning("worker %d (pid %d) is gone", hello.worker, hello.pid)
        finally:
            self.connections.remove(connection)
            self._metrics.workers.set(len(self.connections))
            self._metrics.forget_worker(hello.worker)

    async def _settle(self, connection: WorkerConnection) -> None:
        await self._on_connect(connection)
        connection.settled = True

    async def predict(
        self, name: str, number: int, items: Sequence[bytes], *, top_k: int | None, truncate: bool
    ) -> Reply:
        """Asks the worker that owes least; a second one, once, if the first is lost meanwhile.

        Raises:
            NotReady: no worker holds the version now.
            WorkerLost: the workers that were asked are gone.
            GraftworkError: whatever the worker says.
        """
        payload = b"".join(items)
        sizes = [len(item) for item in items]
        lost = False
        for _attempt in range(2):
            holders = [c for c in self.connections if (name, number) in c.loaded]
            if not holders:
                break
            connection = min(holders, key=lambda c: c.rows)
            request = Predict(
                id=connection.next_id(), name=name, number=number, sizes=sizes, top_k=top_k, truncate=truncate
            )
            try:
                return await connection.predict(request, payload)
            except _ConnectionLost:
                logger.warning("worker %d was lost with a request in flight", connection.hello.worker)
                lost = True
        if lost:
            raise WorkerLost("the engine worker was lost while it computed this request; try again")
        raise NotReady("no engine worker can answer for this version right now; try again")
