"""A catalog whose repository and workers do what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from models.errors import WorkerLost
from models.version import Reference
from service.api.catalog import Catalog
from service.api.hold import Hold
from service.api.metrics import Metrics
from service.messages import RemoteEngine, Serving
from tests.service.api.shelf import Key, Shelf
from tests.service.echo_engine import SERVING

Story = Callable[["Stage"], Coroutine[Any, Any, None]]


class FakeConnection:
    """A worker whose loads end when the test says so.

    Attributes:
        asked: every version that it was asked to load, in order.
    """

    def __init__(self) -> None:
        self.loaded: set[Key] = set()
        self.settled = False
        self.fleet: Sequence[RemoteEngine] = ()
        self.asked: list[Key] = []
        self.unloaded: list[Key] = []
        self._ends: dict[Key, asyncio.Future[Serving | str | None]] = {}

    def load(self, name: str, number: int) -> Coroutine[Any, Any, Serving | str | None]:
        self.asked.append((name, number))
        return self._until(self._end(name, number))

    async def _until(self, end: asyncio.Future[Serving | str | None]) -> Serving | str | None:
        return await asyncio.shield(end)

    def unload(self, name: str, number: int) -> None:
        self.loaded.discard((name, number))
        self.unloaded.append((name, number))
        end = self._ends.pop((name, number), None)
        if end is not None and not end.done():
            end.set_result(None)

    def _end(self, name: str, number: int) -> asyncio.Future[Serving | str | None]:
        return self._ends.setdefault((name, number), asyncio.get_running_loop().create_future())

    def finish(self, name: str, number: int) -> None:
        self.loaded.add((name, number))
        self._end(name, number).set_result(SERVING)

    def finish_all(self) -> None:
        """Ends every load that it was asked for and that was not taken back."""
        for name, number in [key for key, end in self._ends.items() if not end.done()]:
            self.finish(name, number)

    def refuse(self, name: str, number: int, reason: str) -> None:
        self._end(name, number).set_result(reason)

    def break_off(self, name: str, number: int) -> None:
        self.loaded.clear()
        self._end(name, number).set_exception(WorkerLost("gone"))


class Stage:
    """A catalog over a shelf, with some connected workers."""

    def __init__(self, workers: int, budget_bytes: int | None, load_models: Sequence[str] | None) -> None:
        self.shelf = Shelf()
        self.metrics = Metrics("0")
        self.catalog = Catalog(
            self.shelf,  # type: ignore[arg-type]
            self.metrics,
            budget_bytes=budget_bytes,
            load_models=load_models,
        )
        self.workers = [FakeConnection() for _ in range(workers)]
        self.catalog.connections = self.workers  # type: ignore[assignment]

    async def refresh(self) -> None:
        await self.catalog.refresh()
        await settle()

    async def finish(self, name: str, number: int) -> None:
        for worker in self.workers:
            worker.finish(name, number)
        await settle()

    async def publish(self, name: str, number: int) -> None:
        """Publishes, loads everywhere, and so serves a version."""
        self.shelf.publish(name, number)
        await self.refresh()
        await self.finish(name, number)

    async def promote(self, name: str, alias: str, number: int) -> None:
        self.shelf.promote(name, alias, number)
        await self.refresh()

    def answers(self, name: str, **reference: Any) -> int:
        """The number of the version that answers."""
        return self.catalog.entry(Reference(name=name, **reference)).number

    def using(self, name: str, number: int) -> Hold:
        """A request for a version is under way."""
        return self.catalog.use(Reference(name=name, number=number))

    def metric(self, name: str) -> dict[tuple[str, ...], float]:
        families = text_string_to_metric_families(self.metrics.exposition().decode())
        return {
            tuple(sample.labels.values()): sample.value
            for family in families
            for sample in family.samples
            if sample.name == name
        }


async def settle() -> None:
    """Lets everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


def play(
    story: Story, *, workers: int = 2, budget_bytes: int | None = None, load_models: Sequence[str] | None = None
) -> None:
    async def run() -> None:
        await story(Stage(workers, budget_bytes, load_models))

    asyncio.run(run())
