"""The one way from a request to the workers, whatever its dialect: for which version, for how long, and beside how many others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

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


class Inference:
    """Asks workers.

    Args:
        catalog: which versions there are.
        pool: who answers.
        admission: what may be in flight.
        metrics: what is counted.
        timeout_seconds: the longest that anybody waits.
    """

    def __init__(
        self, catalog: Catalog, pool: WorkerPool, admission: Admission, metrics: Metrics, *, timeout_seconds: float
    ) -> None:
        self._catalog = catalog
        self._pool = pool
        self._admission = admission
        self._metrics = metrics
        self._timeout_seconds = timeout_seconds
        self._deadlines = Deadlines()

    def question(self, reference: Reference, record: RequestRecord, connection: Connection | None = None) -> Question:
        """A request that is about to be read.

        Args:
            reference: whom it asks.
            record: of the request; takes the version's name and number.
            connection: of the client, who may hang up; None where the task is cancelled then.

        Raises:
            ModelNotFound, VersionNotFound, VersionNotLoaded, NotReady, VersionCorrupt: no such version is served.
            Overloaded: the server is full.
        """
        hold = self._catalog.use(reference)
        record.model, record.version = hold.entry.name, str(hold.entry.number)
        patience = Patience(self._timeout_seconds, connection, self._deadlines)
        return Question(hold, self._admission.ticket(), patience, self._ask)

    async def _ask(
        self, entry: CatalogVersion, items: Sequence[Item], deadline: float, wish: Wish, priority: int
    ) -> Reply:
        await self._catalog.load(entry)
        reply = await self._pool.predict(
            entry.name, entry.number, items, deadline=deadline, wish=wish, priority=priority
        )
        self._metrics.observe_answer(entry.name, str(entry.number), len(items), reply.timings)
        return reply


class Question:
    """A request on its way; a context manager: until it ends, its version stays loaded, and what it has in flight counts.

    Attributes:
        version: that answers.
        ticket: what it has in flight.

    Raises:
        DeadlineExceeded, ClientDisconnect: nobody waits any more.
    """

    __slots__ = ("_ask", "_entry", "_hold", "_patience", "ticket", "version")

    def __init__(
        self,
        hold: Hold,
        ticket: Ticket,
        patience: Patience,
        ask: Callable[[CatalogVersion, Sequence[Item], float, Wish, int], Awaitable[Reply]],
    ) -> None:
        assert hold.entry.version is not None
        self.version: ModelVersion = hold.entry.version
        self.ticket = ticket
        self._hold = hold
        self._entry = hold.entry
        self._patience = patience
        self._ask = ask

    # By hand, because this is on the way of every request: `contextlib` would cost it a twentieth of its time.

    def __enter__(self) -> Self:
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
            self._hold.__exit__()

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
        return self._ask(self._entry, items, self._patience.deadline, wish, priority)
