"""Which versions are on disk, which of them are served, and which one a request means."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress

from models.errors import (
    Conflict,
    ModelNotFound,
    NotReady,
    StorageFailed,
    VersionCorrupt,
    VersionNotFound,
    VersionNotLoaded,
    did_you_mean,
)
from models.repository import ModelRepository
from models.version import Reference
from service.api.catalog_model import CatalogModel, CatalogVersion, State
from service.api.catalog_reader import CatalogReader
from service.api.hold import Hold
from service.api.loader import Loader
from service.api.memory_budget import MemoryBudget
from service.api.metrics import Metrics
from service.api.worker_connection import WorkerConnection

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
EVERY_MODEL = "*"  # that is there at the start


class Catalog:
    """Follows the repository, and flips routing to a version only after every connected worker has loaded and checked it.

    Args:
        repository: read in a thread, whenever its generation changes.
        metrics: told what is served.
        budget_bytes: of backbones in each worker; None for no limit.
        load_models: the models to begin with, where each is served only once it is loaded by its name; None to serve them all.

    Attributes:
        changes: of what there is, or is served, so far.
    """

    def __init__(
        self,
        repository: ModelRepository,
        metrics: Metrics,
        *,
        budget_bytes: int | None = None,
        load_models: Iterable[str] | None = None,
    ) -> None:
        self._repository = repository
        self._reader = CatalogReader(repository)
        self._metrics = metrics
        self._loader = Loader(metrics, MemoryBudget(budget_bytes), self._on_change)
        self._models: dict[str, CatalogModel] = {}
        self._wanted = None if load_models is None else set(load_models)
        self._loads: dict[str, set[object]] = {}  # under way, of models that were not loaded before
        self._generation: bytes | None = None
        self._has_looked = asyncio.Event()
        self._changed = asyncio.Event()
        self._refreshing = asyncio.Lock()
        self._settled = self._models  # those before, where taking in what was read has failed midway: it is done again
        self._draining = False
        self.changes = 0
        self._complaint = ""

    @property
    def connections(self) -> Sequence[WorkerConnection]:
        """All workers."""
        return self._loader.connections

    @connections.setter
    def connections(self, connections: Sequence[WorkerConnection]) -> None:
        self._loader.connections = connections

    # The repository

    async def follow(self) -> None:
        """Looks for changes each second, for ever."""
        while True:
            try:
                await self.refresh()
                with suppress(FileNotFoundError):  # the repository is there from the first publish on
                    disk = await asyncio.to_thread(shutil.disk_usage, self._repository.root)
                    self._metrics.observe_disk(disk.total, disk.free)
                self._complaint = ""
            except Exception as error:
                if str(error) != self._complaint:  # once, not each second
                    logger.exception("the repository cannot be read; what is loaded stays served")
                self._complaint = str(error)
            await asyncio.sleep(POLL_SECONDS)

    async def refresh(self, *, again: bool = False) -> None:
        """Takes in what changed on disk; new versions are loaded, removed ones are forgotten.

        Args:
            again: also where nothing changed; what failed is tried again.
        """
        async with self._refreshing:
            generation = await asyncio.to_thread(self._repository.generation)
            if generation == self._generation and not again:
                return
            if self._generation and not generation:  # an unmounted volume, say: nobody deletes every model at once
                raise StorageFailed("the model repository has vanished")
            found = await asyncio.to_thread(self._reader.read, self._models)
            if self._generation is None:
                self._begin_with(found)
            # Models that are as they were stay as they are: with ten thousand, requests would wait for the others.
            changed = [model for name, model in found.items() if model is not self._settled.get(name)]
            self._merge(found)
            for model in changed:
                self._settle(model, eager=self._generation is not None)
            self._settled = found
            self._generation = generation  # not before: what failed unforeseen is tried again
            self._has_looked.set()
            self._note_change()

    def _note_change(self) -> None:
        self.changes += 1
        self._changed.set()

    def _begin_with(self, found: Iterable[str]) -> None:
        if self._wanted is not None:
            if EVERY_MODEL in self._wanted:
                self._wanted.update(found)
            for name in sorted(self._wanted.difference(found, (EVERY_MODEL,))):
                hint = did_you_mean(name, found)
                logger.warning("there is no model '%s' yet; it is loaded once it appears%s", name, hint)

    def _known(self, name: str) -> CatalogModel:
        return self._models.get(name) or CatalogModel()

    def _merge(self, found: dict[str, CatalogModel]) -> None:
        """Takes over what was read; what is known keeps its state, and what is gone is let go."""
        before, self._models = self._settled, found
        for name, model in found.items():
            model.is_wanted = self._is_wanted(name)
            known = before.get(name) or CatalogModel()
            if model is known:
                continue
            model.reroute(known)  # before a version fails, as what is served then depends on where requests went
            for number, entry in model.versions.items():
                if entry is not known.versions.get(number) and entry.version is None:
                    self._loader.fail(entry, str(entry.reason))
        for name, known in before.items():
            if found.get(name) is known:
                continue
            for number, entry in known.versions.items():
                if number not in self._known(name).versions:
                    entry.is_kept = entry.is_routed = False
                    if entry.state is State.LOADING:
                        self._loader.unload(entry, State.UNLOADED)
                    self._let_go(entry)

    def _settle(self, model: CatalogModel, *, eager: bool = True) -> None:
        """Routes, loads and lets go, as the states of a model's versions ask for now.

        Args:
            eager: see `Loader.load`.
        """
        model.reroute(model)
        for entry in sorted(model.versions.values(), key=lambda entry: (not entry.is_routed, -entry.number)):
            if entry.is_kept and entry.state is State.UNLOADED:
                self._loader.load(entry, eager=eager)
        model.reroute(model)
        for entry in model.versions.values():
            self._let_go(entry)

    def _let_go(self, entry: CatalogVersion) -> None:
        """Unloads a version that nobody wants loaded, once it is not in use."""
        if entry.is_served and not entry.is_kept and not entry.users:
            self._loader.unload(entry, State.UNLOADED)

    def _on_change(self, entry: CatalogVersion) -> None:
        model = self._known(entry.name)
        if model.versions.get(entry.number) is entry:
            self._settle(model)
        self._note_change()

    async def on_connect(self, connection: WorkerConnection) -> None:
        """Has a new worker load everything that is served or on its way."""
        await self._has_looked.wait()
        entries = [entry for model in self._models.values() for entry in model.versions.values()]
        await self._loader.load_all_on(connection, entries)

    # Models by name, where they are loaded by it

    @property
    def is_explicit(self) -> bool:
        """Whether a model is served only once it is loaded by its name."""
        return self._wanted is not None

    def _is_wanted(self, name: str) -> bool:
        return self._wanted is None or name in self._wanted

    async def load_model(self, name: str) -> None:
        """Keeps a model loaded from now on as its deployment says, and waits until all of that is served or has failed.

        Raises:
            ModelNotFound: there is none.
            Conflict: it was unloaded meanwhile.
            VersionCorrupt, VersionNotLoaded: nothing can be served to requests that name no version. Unless it was loaded before,
                the model is not loaded then.
        """
        assert self._wanted is not None
        failed = any(entry.state is State.FAILED for entry in self._known(name).versions.values())
        await self.refresh(again=failed)
        model = self.model(name)
        this = object()
        if name not in self._wanted or name in self._loads:
            self._loads.setdefault(name, set()).add(this)
        self._wanted.add(name)
        model.is_wanted = True
        self._settle(model)
        try:
            await self._until_loaded(name)
            if not self._is_wanted(name):
                raise Conflict(f"'{name}' was unloaded while it was being loaded")
            self.entry(Reference(name=name))
        except BaseException:
            loads = self._loads.get(name, set())
            if this in loads:
                loads.remove(this)
                if not loads:  # nobody else waits for it, and nobody has it
                    self._unwant(name)
            raise
        self._loads.pop(name, None)

    async def _until_loaded(self, name: str) -> None:
        while True:
            self._changed.clear()  # before the look, so that what changes after it is not missed
            versions = self._known(name).versions.values()
            if not any(entry.is_kept and entry.state is State.LOADING for entry in versions):
                return
            await self._changed.wait()

    def unload_model(self, name: str) -> None:
        """Keeps nothing of a model loaded; its memory is free when the requests that are under way are answered.

        Raises:
            ModelNotFound: there is none.
        """
        if not self._is_wanted(name):
            self.model(name)
        self._unwant(name)

    def _unwant(self, name: str) -> None:
        assert self._wanted is not None
        self._wanted.discard(name)
        self._loads.pop(name, None)
        model = self._known(name)
        model.is_wanted = False
        self._settle(model)
        for entry in model.versions.values():
            if entry.state is State.LOADING and not entry.users:
                self._loader.unload(entry, State.UNLOADED)
        self._note_change()

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
        if all(c.fleet and not any(server.up for server in c.fleet) for c in self.connections):
            return f"none of {len(self.connections[0].fleet)} Triton servers is ready"
        if not any(connection.settled for connection in self.connections):
            entries = [e for model in self._models.values() for e in model.versions.values()]
            loading = sum(e.state is State.LOADING for e in entries)
            return f"models are being loaded: {len(entries) - loading} of {len(entries)} versions are done"
        return None

    @property
    def models(self) -> dict[str, CatalogModel]:
        """Every model on disk, by name."""
        return self._models

    def users(self) -> dict[tuple[str, str], int]:
        """How many requests are under way for each version that is served, by its labels."""
        entries = (entry for model in self._models.values() for entry in model.versions.values())
        return {(entry.name, str(entry.number)): entry.users for entry in entries if entry.is_served}

    def failed(self) -> list[tuple[str, str]]:
        """The versions that cannot be loaded, by their labels."""
        entries = (entry for model in self._models.values() for entry in model.versions.values())
        return [(entry.name, str(entry.number)) for entry in entries if entry.state is State.FAILED]

    def model(self, name: str) -> CatalogModel:
        """A model by name.

        Raises:
            ModelNotFound: with near matches.
        """
        try:
            return self._models[name]
        except KeyError:
            self.check_has_looked()
            raise ModelNotFound(f"there is no model '{name[:64]}'{did_you_mean(name[:64], self._models)}") from None

    def check_has_looked(self) -> None:
        """Raises `NotReady` as long as it is not known which models there are."""
        if self._generation is None:
            raise NotReady("the model repository is being read; try again")

    def use(self, reference: Reference) -> Hold:
        """Holds the version that a request means; raises as `entry`."""
        return Hold(self.entry(reference), self._on_idle)

    def hold(self, name: str, number: int) -> Hold:
        """Holds any version on disk.

        Raises:
            ModelNotFound, VersionNotFound: there is none.
        """
        entry = self.model(name).versions.get(number)
        if entry is None:
            raise VersionNotFound(f"there is no version {number} of '{name}'")
        return Hold(entry, self._on_idle)

    def _on_idle(self, entry: CatalogVersion) -> None:
        self._let_go(entry)
        self._loader.idle()

    async def load(self, entry: CatalogVersion) -> None:
        """Waits until a version that is held is in the memory of every worker; raises as `Loader.loaded`."""
        if entry.state is State.READY:
            return
        if entry.state is State.UNLOADED:
            self._loader.load(entry)
        await self._loader.loaded(entry)

    def entry(self, reference: Reference) -> CatalogVersion:
        """The version that a request means, which is served, and how.

        Raises:
            ModelNotFound, VersionNotFound: there is none.
            VersionNotLoaded: it is not kept loaded.
            NotReady: it is being loaded.
            VersionCorrupt: it could not be loaded.
        """
        model = self.model(reference.name)
        if not model.is_wanted:
            raise VersionNotLoaded(
                f"'{reference.name}' is not loaded; load it: POST /v2/repository/models/{reference.name}/load"
            )
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
        if entry.state is State.UNLOADED or (entry.is_served and not entry.is_kept):
            raise VersionNotLoaded(
                f"{entry} is not kept loaded, but {model.deployment.keep} and what has an alias; "
                f"see: graftwork models keep --help"
            )
        if entry.state is State.LOADING:
            raise NotReady(f"{entry} is being loaded; try again")
        if entry.state is State.FAILED or entry.version is None:
            raise VersionCorrupt(f"{entry} is not served: {entry.reason}")
        return entry
