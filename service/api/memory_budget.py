"""How many bytes of backbones a worker may hold, and which versions have to go for others."""

from __future__ import annotations

from collections.abc import Sequence

from service.api.catalog_model import CatalogVersion, State


class MemoryBudget:
    """Counts each backbone once, however many versions stand on it: their heads are kilobytes.

    Args:
        limit: bytes in each worker; None for no limit.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._holders: dict[str, set[CatalogVersion]] = {}  # by the digest of a backbone
        self._bytes: dict[str, int] = {}

    @property
    def used(self) -> int:
        """Bytes of all backbones that are loaded, or being loaded."""
        return sum(self._bytes.values())

    def could_hold(self, entry: CatalogVersion) -> bool:
        """Whether a version fits at all, if everything else goes."""
        return self.limit is None or entry.backbone_bytes <= self.limit

    def has_room(self, entry: CatalogVersion) -> bool:
        """Whether a version fits while everything else stays."""
        victims = self.victims(entry)
        return victims is not None and not victims

    def victims(self, entry: CatalogVersion) -> Sequence[CatalogVersion] | None:
        """The versions that have to go so that another one fits; None where that needs some that are in use.

        Those that nobody is led to go first, and of these, those that were not used for longest. All versions on a backbone go
        together, as one of them alone frees nothing.
        """
        if self.limit is None or entry.backbone in self._holders:
            return ()
        excess = self.used + entry.backbone_bytes - self.limit
        found: list[CatalogVersion] = []
        for digest in sorted(filter(self._is_idle, self._holders), key=self._worth):
            if excess <= 0:
                break
            found += self._holders[digest]
            excess -= self._bytes[digest]
        return None if excess > 0 else found

    def holds(self, entry: CatalogVersion) -> bool:
        """Whether a version is loaded, or being loaded."""
        return entry in self._holders.get(entry.backbone or "", ())

    def add(self, entry: CatalogVersion) -> None:
        """A version is about to be loaded."""
        if entry.backbone is not None:
            self._holders.setdefault(entry.backbone, set()).add(entry)
            self._bytes[entry.backbone] = entry.backbone_bytes

    def remove(self, entry: CatalogVersion) -> None:
        """A version is not loaded any more; one that was not is no matter."""
        holders = self._holders.get(entry.backbone or "", set())
        holders.discard(entry)
        if entry.backbone in self._holders and not holders:
            del self._holders[entry.backbone], self._bytes[entry.backbone]

    def _is_idle(self, digest: str) -> bool:
        return all(entry.users == 0 and entry.state is State.READY for entry in self._holders[digest])

    def _worth(self, digest: str) -> tuple[bool, float]:
        holders = self._holders[digest]
        return any(entry.is_routed for entry in holders), max(entry.last_used for entry in holders)
