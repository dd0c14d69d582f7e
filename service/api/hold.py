"""A version that a request has in its hands."""

from __future__ import annotations

import time
from collections.abc import Callable

from service.api.catalog_model import CatalogVersion


class Hold:
    """A context manager: until it ends, the version stays in the workers' memory, whatever else is decided.

    Args:
        entry: the version.
        on_idle: called when nobody holds it any more.

    Attributes:
        entry: the version.
    """

    __slots__ = ("_on_idle", "entry")

    def __init__(self, entry: CatalogVersion, on_idle: Callable[[CatalogVersion], None]) -> None:
        self.entry = entry
        self._on_idle = on_idle

    def __enter__(self) -> CatalogVersion:
        self.entry.users += 1
        self.entry.last_used = time.monotonic()
        return self.entry

    def __exit__(self, *_error: object) -> None:
        self.entry.users -= 1
        if not self.entry.users:
            self._on_idle(self.entry)
