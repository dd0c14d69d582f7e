"""Rows that end the worker which computes them."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from service.messages import Item

MOST_REMEMBERED = 1024
SUSPECT_SECONDS = 60.0  # for which a suspect that could not be tried is remembered: as long as any Retry-After
GUILTY_SECONDS = 600.0  # an innocent row may have met two kills from outside


def row_key(name: str, number: int, item: Item) -> bytes:
    """What a row of a version is remembered by."""
    return hashlib.sha256(b"%s:%d:%s" % (name.encode(), number, item)).digest()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is known of a request's rows.

    Attributes:
        culprit: the first row that ends workers.
        suspected: a row has still to be tried alone.
    """

    culprit: int | None = None
    suspected: bool = False


UNKNOWN = Verdict()


class Quarantine:
    """Suspects are tried one at a time, so that whoever is innocent is cleared; culprits are not tried again for a while.

    A suspect that no worker was left to try is tried when it comes again: it must not end another worker among batch mates.

    Attributes:
        trial: held while one suspect is tried.
    """

    def __init__(self) -> None:
        self.trial = asyncio.Lock()
        self._known: OrderedDict[bytes, tuple[bool, float]] = OrderedDict()  # whether it is guilty, until when

    def judge(self, name: str, number: int, items: Sequence[Item]) -> Verdict:
        """What is known of the rows of a request now."""
        if not self._known:  # nothing is hashed while all is well
            return UNKNOWN
        suspected, now = False, time.monotonic()
        for index, item in enumerate(items):
            guilty, until = self._known.get(row_key(name, number, item), (False, 0.0))
            if now <= until:
                if guilty:
                    return Verdict(culprit=index)
                suspected = True
        return Verdict(suspected=suspected)

    def suspect(self, rows: Iterable[bytes]) -> None:
        """Remembers rows that may have ended a worker, by their keys, unless they are guilty already."""
        for row in rows:
            if not self._known.get(row, (False, 0.0))[0]:
                self._remember(row, False, SUSPECT_SECONDS)

    def clear(self, rows: Iterable[bytes]) -> None:
        """Forgets rows that were tried."""
        for row in rows:
            self._known.pop(row, None)

    def convict(self, row: bytes) -> None:
        """Remembers a row that ended a worker when it was alone."""
        self._remember(row, True, GUILTY_SECONDS)

    def _remember(self, row: bytes, guilty: bool, seconds: float) -> None:
        now = time.monotonic()
        self._known[row] = guilty, now + seconds
        self._known.move_to_end(row)
        if len(self._known) > MOST_REMEMBERED:
            self._known.popitem(last=False)
        while self._known and next(iter(self._known.values()))[1] < now:
            self._known.popitem(last=False)
