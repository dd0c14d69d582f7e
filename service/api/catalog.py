"""Which versions are on disk, which of them are served, and which one a request means."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

from models.deployment import CHAMPION, Deployment
from models.errors import (
    ModelNotFound,
    NotReady,
    VersionCorrupt,
    VersionNotFound,
    WorkerLost,
    did_you_mean,
)
from models.repository import ModelRepository
from models.version import ModelVersion, Reference
from service.api.metrics import Metrics
from service.api.worker_connection import WorkerConnection
from service.messages import Serving

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0


class State(StrEnum):
    """Where a version is on its way from disk to traffic."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


@dataclass(kw_only=True, eq=False)
class CatalogVersion:
    """A version on disk; prints as ``flowers:3``.

    Attributes:
        version: nothing where its manifest cannot be read.
        reason: why it failed.
        serving: how the worker that answered first computes it.
    """

    name: str
    number: int
    version: ModelVersion | None
    state: State = State.LOADING
    reason: str | None = None
    serving: Serving | None = None

    def __str__(self) -> str:
        return f"{self.name}:{self.number}"


@dataclass(kw_only=True)
class CatalogModel:
    """A model on disk.

    Attributes:
        versions: by number, ascending.
        deployment: which version each alias shall lead to.
        routes: which version each alias leads to now.
        default: where unaddressed requests go: to ``champion``, else to the newest version that is ready.
    """

    versions: dict[int, CatalogVersion] = field(default_factory=dict)
    deployment: Deployment = field(default_factory=Deployment)
    routes: Mapping[str, int] = field(default_factory=dict)
    default: int | None = None

    def reroute(self, before: Mapping[str, int]) -> None:
        """Leads each alias to its version once that is ready; until then it stays where it was."""
        self.routes = {
            alias: before[alias] if not self._is_ready(number) and self._is_ready(before.get(alias, 0)) else number
            for alias, number in self.deployment.aliases.items()
        }
        self.default = self.routes.get(CHAMPION) or max(filter(self._is_ready, self.versions), default=None)

    def _is_ready(self, number: int) -> bool:
        return number in self.versions and self.versions[number].state is State.READY


class Catalog:
    """Follows the repository, and flips routing to a version only after every connected worker has loaded and checked it.

    Args:
        repository: read in a thread, whenever its generation changes.
        metrics: told what is served.
    """

    def __init__(self, repository: ModelRepository, metrics: Metrics) -> None:
        self._repository = repository
        self._metrics = metrics
        self._models: dict[str, CatalogModel] = {}
        self._generation: bytes | None = None
        self._has_looked = asyncio.Event()
        self._draining = False
        self._complaint = ""
        self._loads: set[asyncio.Task[None]] = set()
        self.connections: Sequence[WorkerConnection] = []

    async def follow(self) -> None:
        """Looks for changes each second, for ever."""
        while True:
            try:
                await self.refresh()
                self._complaint = ""
            except Exception as error:
                if str(error) != self._complaint:  # once, not each second
                    logger.exception("the repository cannot be read; what is loaded stays served")
                self._complaint = str(error)
            await asyncio.sleep(POLL_SECONDS)

    async def refresh(self) -> None:
        """Takes in what changed on disk; new versions are loaded, removed ones are forgotten."""
        generation = await asyncio.to_thread(self._repository.generation)
        if generation == self._generation:
            return
        found = await asyncio.to_thread(self._read)
        new = self._merge(found)
        self._generation = generation
        self._has_looked.set()
        for entry in new:
            if entry.reason is not None:
                self._fail(entry, entry.reason)
                continue
            task = asyncio.create_task(self._load(entry, tuple(self.connections)))
            self._loads.add(task)
            task.add_done_callback(self._loads.discard)

    def _read(self) -> dict[str, CatalogModel]:
        models = {}
        for name in self._repository.names():
            model = CatalogModel()
            for number in self._repository.numbers(name):
                with suppress(VersionNotFound):  # deleted since
                    model.versions[number] = self._read_version(name, number)
            if model.versions:
                model.deployment = self._read_deployment(name)
                models[name] = model
        return models

    def _read_version(self, name: str, number: int) -> CatalogVersion:
        known = self._known(name).versions.get(number)
        if known is not None and known.state is not State.FAILED:
            return known  # versions are immutable
        try:
            return CatalogVersion(name=name, number=number, version=self._repository.read(name, number))
        except VersionCorrupt as error:
            return CatalogVersion(name=name, number=number, version=None, reason=error.message)

    def _read_deployment(self, name: str) -> Deployment:
        try:
            return self._repository.deployment(name)
        except VersionCorrupt as error:
            logger.error("%s; they stay as they were", error)
            return self._known(name).deployment

    def _known(self, name: str) -> CatalogModel:
        return self._models.get(name) or CatalogModel()

    def _merge(self, found: dict[str, CatalogModel]) -> list[CatalogVersion]:
        """Keeps the state of what is known; returns what is new, or failed before and gets another try."""
        new = []
        for name, model in found.items():
            known = self._known(name)
            for number, entry in model.versions.items():
                if entry is not known.versions.get(number):
                    new.append(entry)
            model.reroute(known.routes)
        for name, known in self._models.items():
            for number in set(known.versions) - set(found.get(name, CatalogModel()).versions):
                self._forget(name, number)
        self._models = found
        return new

    def _forget(self, name: str, number: int) -> None:
        for connection in self.connections:
            connection.unload(name, number)
        self._metrics.forget_version(name, str(number))

    def _fail(self, entry: CatalogVersion, reason: str) -> None:
        self._metrics.load_failures.labels(entry.name).inc()
        if entry.state is State.READY and any((entry.name, entry.number) in c.loaded for c in self.connections):
            logger.error("a new worker does not serve %s, others still do: %s", entry, reason)
            return
        entry.state, entry.reason = State.FAILED, reason
        self._forget(entry.name, entry.number)
        logger.error("%s is not served: %s", entry, reason)

    async def _load(self, entry: CatalogVersion, connections: Sequence[WorkerConnection]) -> None:
        """Loads a version on some workers; it is ready once all of them have it."""
        loads = [connection.load(entry.name, entry.number) for connection in connections]
        results = await asyncio.gather(*loads, return_exceptions=True)
        model = self._known(entry.name)
        if model.versions.get(entry.number) is not entry or entry.state is State.FAILED:
            return  # deleted, or refused by another worker, meanwhile
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, WorkerLost):
                raise result
        reasons = [result for result in results if isinstance(result, str)]
        if reasons:
            self._fail(entry, reasons[0])
        elif served := [result for result in results if isinstance(result, Serving)]:
            entry.state, entry.serving = State.READY, served[0]
            self._metrics.loaded_versions.labels(entry.name, str(entry.number)).set(1)
            logger.info("%s is served", entry)
        model.reroute(model.routes)

    async def on_connect(self, connection: WorkerConnection) -> None:
        """Has a new worker load everything that is served or on its way."""
        await self._has_looked.wait()
        entries = [e for model in self._models.values() for e in model.versions.values() if e.state is not State.FAILED]
        await asyncio.gather(*(self._load(entry, [connection]) for entry in entries))

    def drain(self) -> None:
        """The server is about to stop: it is not ready any more, but answers on."""
        self._draining = True

    def not_ready_reason(self) -> str | None:
        """Why the server is not ready; nothing when it is."""
        if self._draining:
            return "the server is stopping"
        if self._generation is None:
            return "the model repository is being read"
        if not self.connections:
            return "no engine worker is connected"
        if not any(connection.settled for connection in self.connections):
            entries = [e for model in self._models.values() for e in model.versions.values()]
            loading = sum(e.state is State.LOADING for e in entries)
            return f"models are being loaded: {len(entries) - loading} of {len(entries)} versions are done"
        return None

    @property
    def models(self) -> dict[str, CatalogModel]:
        """Every model on disk, by name."""
        return self._models

    def model(self, name: str) -> CatalogModel:
        """A model by name.

        Raises:
            ModelNotFound: with near matches.
        """
        try:
            return self._models[name]
        except KeyError:
            if self._generation is None:
                raise NotReady("the model repository is being read; try again") from None
            raise ModelNotFound(f"there is no model '{name[:64]}'{did_you_mean(name[:64], self._models)}") from None

    def resolve(self, reference: Reference) -> ModelVersion:
        """The version that a request means; raises as `entry`."""
        version = self.entry(reference).version
        assert version is not None
        return version

    def entry(self, reference: Reference) -> CatalogVersion:
        """The version that a request means, which is served, and how.

        Raises:
            ModelNotFound, VersionNotFound: there is none.
            NotReady: it is being loaded.
            VersionCorrupt: it could not be loaded.
        """
        model = self.model(reference.name)
        number = reference.number
        if reference.alias is not None:
            number = model.routes.get(reference.alias)
            if number is None:
                hint = did_you_mean(reference.alias, model.routes)
                raise VersionNotFound(f"'{reference.name}' has no alias '{reference.alias}'{hint}")
        number = number or model.default or max(model.versions)
        entry = model.versions.get(number)
        if entry is None:
            raise VersionNotFound(f"there is no version {number} of '{reference.name}'")
        if entry.state is State.LOADING:
            raise NotReady(f"{entry} is being loaded; try again")
        if entry.state is State.FAILED or entry.version is None:
            raise VersionCorrupt(f"{entry} is not served: {entry.reason}")
        return entry
