"""Has the workers load versions, and unload them again, within a budget of memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from models.errors import NotReady, VersionCorrupt, WorkerLost
from service.api.catalog_model import CatalogVersion, State
from service.api.memory_budget import MemoryBudget
from service.api.metrics import Metrics
from service.api.worker_connection import WorkerConnection
from service.messages import Serving

logger = logging.getLogger(__name__)


class Loader:
    """What every worker holds.

    Args:
        metrics: told of it.
        budget: what fits, and who has to go.
        on_change: called with a version that is served now, or has failed.

    Attributes:
        connections: all workers.
    """

    def __init__(self, metrics: Metrics, budget: MemoryBudget, on_change: Callable[[CatalogVersion], None]) -> None:
        self._metrics = metrics
        self._budget = budget
        self._on_change = on_change
        self._freed = asyncio.Event()
        self.connections: Sequence[WorkerConnection] = []
        metrics.backbone_budget.set(budget.limit or 0)

    def load(self, entry: CatalogVersion, *, eager: bool = True) -> None:
        """Begins to load a version for the first time.

        Args:
            eager: whether others have to go for it where there is no room; otherwise it waits for its first request.
        """
        self._metrics.expect_model(entry.name)
        if not self._budget.could_hold(entry):
            self.fail(entry, f"its backbone has {entry.backbone_bytes >> 20} MiB; raise --backbone-memory")
        elif not eager and not self._budget.has_room(entry):
            entry.state = State.ON_DEMAND
        else:
            entry.state = State.LOADING
            self._start(entry)

    async def loaded(self, entry: CatalogVersion) -> None:
        """Waits until every worker has a version; brings it back where others had needed its memory.

        Raises:
            VersionCorrupt: it cannot be loaded.
            NotReady: no worker is there to load it.
        """
        if entry.state is State.ON_DEMAND and entry.loading is None:
            self._metrics.on_demand_loads.labels(entry.name).inc()
            self._start(entry)
        if entry.loading is not None:
            await asyncio.shield(entry.loading)
        if entry.state is State.FAILED:
            raise VersionCorrupt(f"{entry} is not served: {entry.reason}")
        if entry.state is not State.READY:
            raise NotReady(f"{entry} cannot be loaded right now; try again")

    async def load_on(self, entry: CatalogVersion, connections: Sequence[WorkerConnection]) -> None:
        """Has some workers load a version; it is ready once all of them have it."""
        loads = [connection.load(entry.name, entry.number) for connection in connections]
        results = await asyncio.gather(*loads, return_exceptions=True)
        if not self._budget.holds(entry):  # deleted, or refused by another worker, meanwhile
            for connection, result in zip(connections, results, strict=True):
                if isinstance(result, Serving):  # it was told to forget the version before it was asked to load it
                    connection.unload(entry.name, entry.number)
            return
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, WorkerLost):
                raise result
        reasons = [result for result in results if isinstance(result, str)]
        if reasons:
            self.fail(entry, reasons[0])
            return
        if served := [result for result in results if isinstance(result, Serving)]:
            entry.serving = served[0]
        if entry.state is not State.READY and self._is_everywhere(entry):
            entry.state = State.READY
            self._metrics.loaded_versions.labels(entry.name, str(entry.number)).set(1)
            logger.info("%s is served", entry)
            self._on_change(entry)
            self.idle()  # until its first request

    async def load_all_on(self, connection: WorkerConnection, entries: Sequence[CatalogVersion]) -> None:
        """Has a new worker load, of some versions, those that the others hold or load."""
        await asyncio.gather(*(self.load_on(entry, [connection]) for entry in entries if self._budget.holds(entry)))

    def fail(self, entry: CatalogVersion, reason: str) -> None:
        """A version must not be served, unless some workers serve it already and only another one cannot."""
        self._metrics.load_failures.labels(entry.name).inc()
        if entry.state is State.READY and any((entry.name, entry.number) in c.loaded for c in self.connections):
            logger.error("a new worker does not serve %s, others still do: %s", entry, reason)
            return
        entry.reason = reason
        self.unload(entry, State.FAILED)
        logger.error("%s is not served: %s", entry, reason)
        self._on_change(entry)

    def unload(self, entry: CatalogVersion, state: State) -> None:
        """Has every worker forget a version."""
        entry.state, entry.loading = state, None
        for connection in self.connections:
            connection.unload(entry.name, entry.number)
        self._metrics.forget_version(entry.name, str(entry.number))
        self._give_room(entry)

    def idle(self) -> None:
        """A version is not in use any more: it may go for one that waits."""
        self._freed.set()

    def _is_everywhere(self, entry: CatalogVersion) -> bool:
        """Whether all workers have a version; one that has just connected need not, nor does it decide for the others."""
        has = {connection: (entry.name, entry.number) in connection.loaded for connection in self.connections}
        return any(has.values()) and all(has[connection] for connection in has if connection.settled)

    def _start(self, entry: CatalogVersion) -> None:
        entry.loading = asyncio.create_task(self._load(entry, has_room=self._take_room(entry)))

    async def _load(self, entry: CatalogVersion, *, has_room: bool) -> None:
        task = asyncio.current_task()
        try:
            while not has_room:
                self._freed.clear()  # before the look, so that what is freed after it is not missed
                if entry.loading is not task:
                    return  # deleted while it waited
                has_room = self._take_room(entry)
                if not has_room:
                    await self._freed.wait()
            if entry.loading is not task:
                return  # taken back before any worker was asked
            await self.load_on(entry, tuple(self.connections))
            if entry.loading is task and entry.state is State.ON_DEMAND:  # all workers that were asked are gone
                self.unload(entry, State.ON_DEMAND)
        finally:
            if entry.loading is task:
                entry.loading = None

    def _take_room(self, entry: CatalogVersion) -> bool:
        victims = self._budget.victims(entry)
        if victims is None:
            return False
        for victim in victims:
            self._metrics.evictions.labels(victim.name).inc()
            self.unload(victim, State.ON_DEMAND)
            logger.info("%s is unloaded: %s needs its memory", victim, entry)
        self._budget.add(entry)
        self._metrics.backbone_bytes.set(self._budget.used)
        return True

    def _give_room(self, entry: CatalogVersion) -> None:
        self._budget.remove(entry)
        self._metrics.backbone_bytes.set(self._budget.used)
        self._freed.set()
