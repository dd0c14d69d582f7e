"""Which versions are on disk, which of them are served, and which one a request means."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from models.deployment import CHAMPION, Deployment
from models.errors import (
    GraftworkError,
    ModelNotFound,
    NotReady,
    VersionCorrupt,
    VersionNotFound,
    WorkerLost,
    did_you_mean,
)
from models.repository import ModelRepository
from models.version import ModelVersion, Reference
from service.metrics import Metrics
from service.workers import WorkerConnection

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0


class State(StrEnum):
    """Where a version is on its way from disk to traffic."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


@dataclass(kw_only=True, eq=False)
class CatalogVersion:
    """A version on disk.

    Attributes:
        reason: why it failed.
    """

    version: ModelVersion
    state: State = State.LOADING
    reason: str | None = None


@dataclass(kw_only=True)
class CatalogModel:
    """A model on disk: its versions by number, ascending, and its aliases."""

    versions: dict[int, CatalogVersion] = field(default_factory=dict)
    deployment: Deployment = field(default_factory=Deployment)

    @property
    def default(self) -> int | None:
        """Where unaddressed requests go: to ``champion``, else to the newest version that is ready."""
        champion = self.deployment.aliases.get(CHAMPION)
        if champion is not None:
            return champion
        ready = [number for number, entry in self.versions.items() if entry.state is State.READY]
        return max(ready, default=None)


class Catalog:
    """Follows the repository, and flips routing to a version only after every worker has loaded and checked it.

    Args:
        repository: read in a thread, whenever its generation changes.
        metrics: told what is served.
    """

    def __init__(self, repository: ModelRepository, metrics: Metrics) -> None:
        self._repository = repository
        self._metrics = metrics
        self._models: dict[str, CatalogModel] = {}
        self._generation: bytes | None = None
        self._loads: set[asyncio.Task[None]] = set()
        self.connections: Sequence[WorkerConnection] = []

    async def follow(self) -> None:
        """Looks for changes each second, for ever."""
        while True:
            try:
                await self.refresh()
            except Exception:
                logger.exception("the repository cannot be read; what is loaded stays served")
            await asyncio.sleep(POLL_SECONDS)

    async def refresh(self) -> None:
        """Takes in what changed on disk; new versions are loaded, removed ones are forgotten."""
        generation = await asyncio.to_thread(self._repository.generation)
        if generation == self._generation:
            return
        found = await asyncio.to_thread(self._read)
        new = self._merge(found)
        self._generation = generation
        for entry in new:
            task = asyncio.create_task(self._load(entry, tuple(self.connections)))
            self._loads.add(task)
            task.add_done_callback(self._loads.discard)

    def _read(self) -> dict[str, CatalogModel]:
        models = {}
        for name in self._repository.names():
            model = CatalogModel()
            try:
                model.deployment = self._repository.deployment(name)
            except VersionCorrupt as error:
                logger.error("%s", error)
            for version in self._repository.versions(name):
                model.versions[version.number] = CatalogVersion(version=version)
            if model.versions:
                models[name] = model
        return models

    def _merge(self, found: dict[str, CatalogModel]) -> list[CatalogVersion]:
        """Keeps the state of what is known; returns what is new."""
        new = []
        for name, model in found.items():
            known = self._models.get(name, CatalogModel())
            for number, entry in model.versions.items():
                if number in known.versions:
                    model.versions[number] = known.versions[number]
                else:
                    new.append(entry)
        for name, known in self._models.items():
            for number in set(known.versions) - set(found.get(name, CatalogModel()).versions):
                self._forget(name, number)
        self._models = found
        return new

    def _forget(self, name: str, number: int) -> None:
        for connection in self.connections:
            connection.unload(name, number)
        self._metrics.loaded_versions.labels(name, str(number)).set(0)

    async def _load(self, entry: CatalogVersion, connections: Sequence[WorkerConnection]) -> None:
        """Loads a version on some workers; it is ready once all of them have it."""
        name, number = entry.version.name, entry.version.number
        results = await asyncio.gather(*(c.load(name, number) for c in connections), return_exceptions=True)
        reasons = [result for result in results if isinstance(result, str)]
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, WorkerLost):
                raise result
        if reasons:
            entry.state, entry.reason = State.FAILED, reasons[0]
            self._forget(name, number)
            self._metrics.load_failures.labels(name).inc()
            logger.error("%s is not served: %s", entry.version, reasons[0])
        elif None in results:
            entry.state = State.READY
            self._metrics.loaded_versions.labels(name, str(number)).set(1)
            logger.info("%s is served", entry.version)

    async def on_connect(self, connection: WorkerConnection) -> None:
        """Has a new worker load everything that is served or on its way."""
        while self._generation is None:  # the first look at the repository is under way
            await asyncio.sleep(0.01)
        entries = [e for model in self._models.values() for e in model.versions.values() if e.state is not State.FAILED]
        await asyncio.gather(*(self._load(entry, [connection]) for entry in entries))

    def not_ready_reason(self) -> str | None:
        """Why the server is not ready; nothing when it is."""
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
        """The version that a request means.

        Raises:
            ModelNotFound, VersionNotFound: there is none.
            NotReady: it is being loaded.
            VersionCorrupt: it could not be loaded.
        """
        model = self.model(reference.name)
        number = reference.number
        if reference.alias is not None:
            number = model.deployment.aliases.get(reference.alias)
            if number is None:
                hint = did_you_mean(reference.alias, model.deployment.aliases)
                raise VersionNotFound(f"'{reference.name}' has no alias '{reference.alias}'{hint}")
        number = number or model.default or max(model.versions)
        entry = model.versions.get(number)
        if entry is None:
            raise VersionNotFound(f"there is no version {number} of '{reference.name}'")
        return _served(entry)


def _served(entry: CatalogVersion) -> ModelVersion:
    if entry.state is State.READY:
        return entry.version
    error: GraftworkError = NotReady(f"{entry.version} is being loaded; try again")
    if entry.state is State.FAILED:
        error = VersionCorrupt(f"{entry.version} is not served: {entry.reason}")
    raise error
