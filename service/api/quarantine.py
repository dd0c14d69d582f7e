"""Rows that end the worker which computes them."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Sequence

MOST_REMEMBERED = 1024
SUSPECT_SECONDS = 60.0  # for which a suspect that could not be tried is remembered: as long as any Retry-After


class Quarantine:
    """Suspects are tried one at a time, so that whoever is innocent is cleared; culprits are remembered and not tried again.

    A suspect that no worker was left to try is tried when it comes again: it must not end another worker among batch mates.

    Attributes:
        trial: held while one suspect is tried.
    """

    def __init__(self) -> None:
        self.trial = asyncio.Lock()
        self._suspects: OrderedDict[bytes, float] = OrderedDict()  # by when they came under suspicion
        self._culprits: OrderedDict[bytes, None] = OrderedDict()

    def suspect(self, name: str, number: int, items: Sequence[bytes]) -> None:
        """Remembers rows that may have ended a worker, for a while."""
        now = time.monotonic()
        for item in items:
            digest = _digest(name, number, item)
            self._suspects[digest] = now
            self._suspects.move_to_end(digest)
        while len(self._suspects) > MOST_REMEMBERED:
            self._suspects.popitem(last=False)

    def clear(self, name: str, number: int, items: Sequence[bytes]) -> None:
        """Forgets the suspicion of rows that were tried."""
        for item in items:
            self._suspects.pop(_digest(name, number, item), None)

    def has_suspect(self, name: str, number: int, items: Sequence[bytes]) -> bool:
        """Whether a row has still to be tried alone."""
        now = time.monotonic()
        while self._suspects and now - next(iter(self._suspects.values())) > SUSPECT_SECONDS:
            self._suspects.popitem(last=False)
        return bool(self._suspects) and any(_digest(name, number, item) in self._suspects for item in items)

    def convict(self, name: str, number: int, item: bytes) -> None:
        """Remembers a row; the oldest ones are forgotten."""
        self._culprits[_digest(name, number, item)] = None
        if len(self._culprits) > MOST_REMEMBERED:
            self._culprits.popitem(last=False)

    def culprit(self, name: str, number: int, items: Sequence[bytes]) -> int | None:
        """The first row that is known to end workers."""
        if not self._culprits:
            return None
        found = (index for index, item in enumerate(items) if _digest(name, number, item) in self._culprits)
        return next(found, None)


def _digest(name: str, number: int, item: bytes) -> bytes:
    return hashlib.sha256(b"%s:%d:%s" % (name.encode(), number, item)).digest()
