"""The one way from a request to the workers, whatever its dialect: for which version, for how long, and beside how many others."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from models.errors import GraftworkError
from models.signature import Signature
from models.version import ModelVersion, Reference
from service.api.admission import Admission, Ticket
from service.api.catalog import Catalog
from service.api.catalog_model import CatalogVersion
from service.api.hold import Hold
from service.api.metrics import Metrics
from service.api.patience import Connection, Deadlines, Patience
from service.api.telemetry import RequestRecord
from service.api.worker_connection import Reply
from service.api.workers import WorkerPool
from service.messages import PREDICTIONS, Item, Wish

PARTS_IN_FLIGHT = 3  # of a list, for each worker: one being computed, the others ready or on their way


class Inference:
    """Asks workers.

    Args:
        catalog: which versions there are.
        pool: who answers.
        admission: what may be in flight.
        metrics: what is counted.
        timeout_seconds: the longest that anybody waits.
        batch_rows: the largest batch.
        workers: how many engine workers there shall be.

    Attributes:
        closing: the server is about to stop.
    """

    def __init__(
        self,
        catalog: Catalog,
        pool: WorkerPool,
        admission: Admission,
        metrics: Metrics,
        *,
        timeout_seconds: float,
        batch_rows: int,
        workers: int,
    ) -> None:
        self._catalog = catalog
        self._pool = pool
        self._admission = admission
        self._metrics = metrics
        self._timeout_seconds = timeout_seconds
        self._deadlines = Deadlines()
        self.batch_rows = batch_rows
        self.parts_in_flight = PARTS_IN_FLIGHT * workers
        self._list_ids = itertools.count(1)
        self.closing = False

    def next_list_id(self) -> int:
        """A number for the parts of one more list."""
        return next(self._list_ids)

    def question(
        self,
        reference: Reference | None,
        record: RequestRecord,
        connection: Connection | None = None,
        *,
        waits: bool = False,
    ) -> Question:
        """A request that is about to be read.

        Args:
            reference: whom it asks; None where only its body says so: then `Question.choose` does.
            record: of the request; takes the version's name and number.
            connection: of the client, who may hang up; None where the task is cancelled then.
            waits: it is asked in parts, which wait for room where the server is full.

        Raises:
            ModelNotFound, VersionNotFound, VersionNotLoaded, NotReady, VersionCorrupt: no such version is served.
            Overloaded: the server is full.
        """
        hold = None if reference is None else self.hold(reference, record)
        patience = Patience(self._timeout_seconds, connection, self._deadlines)
        return Question(self, record, hold, self._admission.ticket(waits=waits), patience)

    def hold(self, reference: Reference, record: RequestRecord) -> Hold:
        """The version that a request asks; raises as `question`."""
        hold = self._catalog.use(reference)
        record.model, record.version = hold.entry.name, str(hold.entry.number)
        return hold

    async def ask(
        self,
        entry: CatalogVersion,
        items: Sequence[Item],
        deadline: float,
        wish: Wish,
        places: Sequence[int] | None,
        record: RequestRecord,
        *,
        priority: int = 0,
        list_id: int = 0,
    ) -> Reply:
        """Has instances answered by a version that is held.

        Args:
            record: of the request that they are of.
            places: of the items in their request, for errors; None where there is only one.
            priority, list_id: see `service.messages.Predict`.
        """
        await self._catalog.load(entry)
        started, timings = time.perf_counter(), None
        try:
            reply = await self._pool.predict(
                entry.name,
                entry.number,
                items,
                deadline=deadline,
                wish=wish,
                priority=priority,
                list_id=list_id,
                log_fields=record.log_fields,
            )
            timings = reply.timings
        except GraftworkError as error:
            if error.row is not None and places is not None:
                error.name_row(places[error.row])
            raise
        finally:
            if record.span is not None:
                record.span.asked(len(items), started, timings)
        self._metrics.observe_answer(entry.name, str(entry.number), len(items), timings)
        return reply


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a long list, and its answer.

    Attributes:
        places: of its instances in the list.
    """

    places: Sequence[int]
    reply: Reply


class Question:
    """A request on its way; a context manager: until it ends, its version stays loaded, and what it has in flight counts.

    Attributes:
        version: that answers.
        ticket: what it has in flight.

    Raises:
        DeadlineExceeded, ClientDisconnect: nobody waits any more.
    """

    __slots__ = ("_entry", "_hold", "_inference", "_patience", "_record", "ticket", "version")

    def __init__(
        self, inference: Inference, record: RequestRecord, hold: Hold | None, ticket: Ticket, patience: Patience
    ) -> None:
        self.ticket = ticket
        self._inference = inference
        self._record = record
        self._patience = patience
        self._hold = hold
        if hold is not None:
            self._set(hold)

    def _set(self, hold: Hold) -> None:
        assert hold.entry.version is not None
        self.version: ModelVersion = hold.entry.version
        self._entry = hold.entry

    # By hand, because this is on the way of every request: `contextlib` would cost it a twentieth of its time.

    def __enter__(self) -> Self:
        if self._hold is not None:
            self._hold.__enter__()
        self._patience.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.ticket.__exit__()
        try:
            self._patience.__exit__(kind, error, traceback)
        finally:
            if self._hold is not None:
                self._hold.__exit__()

    def choose(self, reference: Reference) -> None:
        """Whom it asks, where that became known only now, in the block; raises as `Inference.question`."""
        assert self._hold is None
        hold = self._inference.hold(reference, self._record)
        hold.__enter__()
        self._hold = hold
        self._set(hold)

    @property
    def signature(self) -> Signature:
        """What the version reads and gives as tensors."""
        return self._entry.signature

    def limit(self, seconds: float) -> None:
        """Nobody waits longer than so many seconds from the request's start."""
        self._patience.limit(seconds)

    def ask(self, items: Sequence[Item], wish: Wish = PREDICTIONS, priority: int = 0) -> Awaitable[Reply]:
        """Has the instances answered.

        Args:
            items: one a row.
            wish: what they are, and what is asked for.
            priority: among the requests for this version; see `service.messages.Predict`.

        Raises:
            Overloaded: the server is full.
            GraftworkError: as `WorkerPool.predict` raises it.
        """
        self.ticket.take_rows(len(items))
        return self._ask(items, wish, priority)

    def _ask(self, items: Sequence[Item], wish: Wish, priority: int = 0) -> Awaitable[Reply]:
        places = range(len(items)) if len(items) > 1 else None
        return self._inference.ask(
            self._entry, items, self._patience.deadline, wish, places, self._record, priority=priority
        )

    async def ask_in_parts(self, items: Sequence[Item], wish: Wish = PREDICTIONS) -> Sequence[Part]:
        """Has a list of any length answered, a batch of rows at a time, of like length: there is room for others beside it.

        Workers get a few parts at a time, which take the turns of one request, so that each is done before the next. Each has
        as long as a request has. A list that is one batch takes any room that there is. Raises as `ask`.
        """
        size = self._inference.batch_rows
        if len(items) <= size:
            await self.ticket.take_or_wait(len(items), self._patience.seconds_left)
            return [Part(places=range(len(items)), reply=await self._ask(items, wish))]
        self.ticket.announce_rows(len(items), self._patience.seconds_left)
        list_id = self._inference.next_list_id()
        few = asyncio.Semaphore(self._inference.parts_in_flight)
        order = sorted(range(len(items)), key=lambda place: len(items[place]))
        parts = [order[start : start + size] for start in range(0, len(order), size)]
        asked = []
        try:
            async with asyncio.TaskGroup() as group:
                for places in parts:
                    await few.acquire()
                    await self.ticket.wait_for_rows(len(places))
                    asked.append(group.create_task(self._ask_part(items, places, wish, list_id, few)))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [part.result() for part in asked]

    async def _ask_part(
        self, items: Sequence[Item], places: Sequence[int], wish: Wish, list_id: int, few: asyncio.Semaphore
    ) -> Part:
        some, deadline = [items[place] for place in places], self._patience.deadline
        try:
            reply = await self._inference.ask(self._entry, some, deadline, wish, places, self._record, list_id=list_id)
        finally:
            self.ticket.give_rows(len(places))
            few.release()
        if not self._inference.closing:
            self._patience.renew()
        return Part(places=places, reply=reply)
