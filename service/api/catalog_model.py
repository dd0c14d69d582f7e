"""A model as the server knows it: which of its versions are served, and which one a request means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

from models.deployment import CHAMPION, Deployment
from models.signature import Signature, signature
from models.version import ModelVersion
from service.messages import Serving

if TYPE_CHECKING:
    import asyncio


class State(StrEnum):
    """Where a version is on its way from disk to traffic."""

    UNLOADED = "unloaded"  # nobody has asked for it to be kept loaded
    LOADING = "loading"
    READY = "ready"
    ON_DEMAND = "on-demand"  # others needed its memory; the next request for it brings it back
    FAILED = "failed"


@dataclass(kw_only=True, eq=False)
class CatalogVersion:
    """A version on disk; prints as ``flowers:3``.

    Attributes:
        version: nothing where its manifest cannot be read.
        backbone_bytes: of its backbone, in memory as on disk.
        reason: why it failed.
        serving: how the worker that answered first computes it.
        users: requests that are under way.
        last_used: when the last of them began, by the monotonic clock.
        is_routed: an alias leads to it, or whoever names no version.
        is_kept: it shall be loaded; otherwise it is unloaded once nobody uses it.
        loading: the load that is under way.
    """

    name: str
    number: int
    version: ModelVersion | None
    backbone_bytes: int = 0
    state: State = State.UNLOADED
    reason: str | None = None
    serving: Serving | None = None
    users: int = 0
    last_used: float = 0.0
    is_routed: bool = False
    is_kept: bool = False
    loading: asyncio.Task[None] | None = None

    def __str__(self) -> str:
        return f"{self.name}:{self.number}"

    @property
    def is_served(self) -> bool:
        """Whether requests can be led to it."""
        return self.state in (State.READY, State.ON_DEMAND)

    @cached_property
    def signature(self) -> Signature:
        """What it reads and gives as tensors; asked of those that have a manifest."""
        assert self.version is not None
        return signature(self.version.manifest)

    @property
    def backbone(self) -> str | None:
        """The digest of what it stands on."""
        return None if self.version is None else self.version.manifest.backbone.digest


@dataclass(kw_only=True)
class CatalogModel:
    """A model on disk.

    Attributes:
        versions: by number, ascending.
        deployment: which version each alias shall lead to, and what shall be kept loaded.
        is_wanted: otherwise nothing is kept loaded, whatever the deployment says, and nothing leads to it.
        routes: which version each alias leads to now.
        default: where unaddressed requests go: to ``champion``, else to the newest version that is served.
    """

    versions: dict[int, CatalogVersion] = field(default_factory=dict)
    deployment: Deployment = field(default_factory=Deployment)
    is_wanted: bool = True
    routes: Mapping[str, int] = field(default_factory=dict)
    default: int | None = None

    def reroute(self, before: CatalogModel) -> None:
        """Leads aliases and unaddressed requests to their versions once these are served; until then they stay.

        Args:
            before: the same model as it was, or this one.
        """
        if not self.is_wanted:
            self.routes, self.default = {}, None
            for entry in self.versions.values():
                entry.is_routed = entry.is_kept = False
            return
        routes = before.routes
        self.routes = {
            alias: routes[alias] if not self._serves(number) and self._serves(routes.get(alias)) else number
            for alias, number in self.deployment.aliases.items()
        }
        self.default = self._default(before.default)
        routed = {self.default, *self.routes.values()}
        kept = self._kept().union(routed)
        on_its_way = any(
            entry.state is State.LOADING or (entry.state is State.UNLOADED and number in kept)
            for number, entry in self.versions.items()
        )
        for number, entry in self.versions.items():
            entry.is_routed = number in routed
            # What is on its way may yet fail: until then, nothing that is served has to go for it.
            entry.is_kept = number in kept or (entry.is_kept and entry.is_served and on_its_way)

    def _default(self, before: int | None) -> int | None:
        champion = self.routes.get(CHAMPION)
        if champion is not None:
            return before if not self._serves(champion) and self._serves(before) else champion
        newest = max(filter(self._serves, self._kept()), default=None)
        return newest if newest is not None else before if self._serves(before) else None

    def _kept(self) -> frozenset[int]:
        """What shall be loaded: versions that failed do not count, so that an older one stays in their place."""
        sound = [number for number, entry in self.versions.items() if entry.state is not State.FAILED]
        return self.deployment.policy.kept(sound).union(self.deployment.aliases.values())

    def _serves(self, number: int | None) -> bool:
        return number in self.versions and self.versions[number].is_served
