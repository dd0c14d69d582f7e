"""All engine workers, as the API process sees them: who is there, who is asked, what happens when one is lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from models.errors import NotReady, WorkerCrashed, WorkerLost
from service.api.admission import Admission
from service.api.metrics import Metrics
from service.api.quarantine import Quarantine, row_key
from service.api.worker_connection import ConnectionLost, Reply, WorkerConnection
from service.messages import PREDICTIONS, Died, Hello, Item, Loaded, Message, Predict, Report, Wish

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
QUIET_TICKS = 2  # a worker says each second that it lives
HUNG_TICKS = 3
REPLACEMENT_SECONDS = 0.5  # for another worker, once one was lost with a request: 503 within a second of its death
MOST_LOSSES = 3  # of workers that a request may see


class WorkerPool:
    """All connected workers.

    Args:
        metrics: told of batches and of workers that come and go.
        admission: told of batches.
        on_connect: awaited, beside everything else, for each worker that connects.
        directory: where workers leave their flight records.
        silence_seconds: a worker that was not heard for so long is killed.
        busy_seconds: one that has had the same row or batch in hand for so long, too.
        max_backlog: bytes; a worker that has not taken so many is not asked for more.
    """

    def __init__(
        self,
        metrics: Metrics,
        admission: Admission,
        on_connect: Callable[[WorkerConnection], Awaitable[None]],
        directory: Path,
        *,
        silence_seconds: float,
        busy_seconds: float,
        max_backlog: int,
    ) -> None:
        self._metrics = metrics
        self._admission = admission
        self._on_connect = on_connect
        self._directory = directory
        self._silence_seconds = silence_seconds
        self._busy_seconds = busy_seconds
        self._max_backlog = max_backlog
        self._tasks: set[asyncio.Task[None]] = set()
        self._quarantine = Quarantine()
        self._changed = asyncio.Event()
        self._last_loss = 0.0
        self.connections: list[WorkerConnection] = []
        self._last_death: Died | None = None

    def connection(self) -> WorkerConnection:
        """The protocol of one more connection to the workers' socket."""
        return WorkerConnection(self._directory, self._on_message, self._on_end)

    def _on_message(self, connection: WorkerConnection, message: Message) -> None:
        match message:
            case Report():
                assert connection.hello is not None
                self._metrics.observe_report(connection.hello.worker, message)
                self._admission.observe(message.batches)
            case Hello():
                logger.info("%s connected", connection)
                self.connections.append(connection)
                self._metrics.workers.set(len(self.connections))
                task = asyncio.create_task(self._settle(connection))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case Loaded():
                self._changed.set()  # whoever waits for a worker looks again
            case Died():  # from the parent process, whose child it was
                self._last_death = message
                self._metrics.worker_deaths.labels(str(message.worker)).inc()
            case _:
                logger.error("unexpected message %s", type(message).__name__)

    def _on_end(self, connection: WorkerConnection) -> None:
        if connection.hello is None:
            return
        logger.warning("%s is gone", connection)
        self._last_loss = time.monotonic()
        self.connections.remove(connection)
        for row, was_alone in connection.left_in_hand():
            if was_alone:
                self._quarantine.convict(row)
            else:
                self._quarantine.suspect([row])
        self._metrics.workers.set(len(self.connections))
        self._metrics.forget_worker(connection.hello.worker)

    async def _settle(self, connection: WorkerConnection) -> None:
        await self._on_connect(connection)
        connection.settled = True

    def why_nobody_is_connected(self) -> str:
        """What is known of the workers' deaths, for whoever asks why the server is not ready."""
        death = self._last_death
        if death is None:
            return ""
        how = f"signal {-death.exit_code}" if death.exit_code < 0 else f"exit code {death.exit_code}"
        return f"; worker {death.worker} ended with {how} and starts again; it died {death.deaths} times in a row"

    async def watch(self) -> None:
        """Kills workers that hang, for ever.

        Silence is counted in ticks of this loop, not in seconds: when this process itself was stopped for a while, it is
        not the workers that were silent. And a worker that was stopped with a batch in its hands gets a few ticks to be done.
        """
        while True:
            await asyncio.sleep(TICK_SECONDS)
            for connection in tuple(self.connections):
                connection.tick(self._busy_seconds)
                if connection.silent_ticks * TICK_SECONDS > self._silence_seconds:
                    connection.kill(f"it was not heard for {self._silence_seconds:g} s")
                elif connection.hung_ticks > HUNG_TICKS:
                    connection.kill(f"it has been busy with one row or batch for over {self._busy_seconds:g} s")

    async def predict(
        self,
        name: str,
        number: int,
        items: Sequence[Item],
        *,
        deadline: float,
        wish: Wish = PREDICTIONS,
        priority: int = 0,
        list_id: int = 0,
        log_fields: Mapping[str, str] | None = None,
    ) -> Reply:
        """Asks the worker that owes least, and another one if that is lost meanwhile.

        A row that the lost worker had in its hands may be what ended it: its request is tried once more, alone.

        Args:
            deadline: by the monotonic clock, seconds; rows are not computed after it.
            wish: what is asked for.
            priority, list_id: among the requests for this version; see `service.messages.Predict`.
            log_fields: what lines in the log say of whose request it is.

        Raises:
            NotReady: no worker holds the version now.
            WorkerLost: the workers that were asked are gone.
            WorkerCrashed: one of the rows ends the worker that computes it.
            GraftworkError: whatever the worker says.
        """
        verdict = self._quarantine.judge(name, number, items)
        if verdict.culprit is not None:
            raise _crash(verdict.culprit)
        request = Predict(
            id=0,
            name=name,
            number=number,
            sizes=[len(item) for item in items],
            deadline=deadline,
            wish=wish,
            isolated=verdict.suspected,
            priority=priority,
            list_id=list_id,
            log_fields=log_fields or {},
        )
        connection = self._holder(name, number)
        if connection is None:
            raise NotReady("no engine worker can answer for this version right now; try again")
        for attempt in range(MOST_LOSSES):
            if attempt > 0:
                self._metrics.retries.inc()
            try:
                if request.isolated and (reply := await self._try_alone(request, items)) is not None:
                    return reply
                return await (connection or await self._next_holder(name, number)).predict(request, items)
            except ConnectionLost as loss:
                connection = None
                if loss.suspects:
                    request.isolated = True
                    self._quarantine.suspect(row_key(name, number, items[index]) for index in loss.suspects)
        raise WorkerLost("the engine worker was lost while it computed this request; try again")

    async def _try_alone(self, request: Predict, items: Sequence[Item]) -> Reply | None:
        """Asks while no other suspect is tried; nothing where it is not one any more by then."""
        name, number = request.name, request.number
        async with self._quarantine.trial:
            verdict = self._quarantine.judge(
                name, number, items
            )  # another request with the same row may have been tried
            if verdict.culprit is not None:
                raise _crash(verdict.culprit)
            if not verdict.suspected:
                request.isolated = False
                return None
            connection = await self._next_holder(name, number)
            try:
                reply = await connection.predict(request, items)
            except ConnectionLost as loss:
                if not loss.suspects:
                    raise
                culprit = min(loss.suspects)
                self._quarantine.convict(row_key(name, number, items[culprit]))
            else:
                self._quarantine.clear(row_key(name, number, item) for item in items)
                return reply
        message = "a row of %s:%d ends the worker that computes it; it is not tried again"
        logger.error(message, name, number, extra={"fields": request.log_fields})
        raise _crash(culprit)

    def _holder(self, name: str, number: int) -> WorkerConnection | None:
        """Who owes least; one that is heard before one that is silent, and none that does not take what it is sent."""
        least: WorkerConnection | None = None
        for connection in self.connections:
            if (
                (name, number) in connection.loaded
                and (least is None or _reluctance(connection) < _reluctance(least))
                and connection.backlog() <= self._max_backlog
            ):
                least = connection
        return least

    async def _next_holder(self, name: str, number: int) -> WorkerConnection:
        """A worker, after one was lost; there may be none for a moment."""
        while (connection := self._holder(name, number)) is None:
            left = self._last_loss + REPLACEMENT_SECONDS - time.monotonic()
            if left <= 0:
                raise WorkerLost("the engine worker was lost while it computed this request; try again")
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._changed.wait()
        return connection


def _reluctance(connection: WorkerConnection) -> tuple[bool, int]:
    return connection.silent_ticks > QUIET_TICKS, connection.rows


def _crash(row: int) -> WorkerCrashed:
    error = WorkerCrashed("it ends the engine worker that computes it, and is not tried again")
    error.row = row
    return error
