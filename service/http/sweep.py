"""One timer for all connections, instead of one for each request."""

from __future__ import annotations

import asyncio
from collections.abc import Set
from typing import Protocol


class Watched(Protocol):
    def check(self, step_seconds: float) -> None:
        """Called at each tick with the time since the last one."""


class Sweep:
    """A coarse clock, and a look at every connection at each of its ticks; it stands still while there is none.

    Args:
        interval_seconds: from tick to tick.

    Attributes:
        now: seconds of running time. A process that was stopped or busy finds that little time has passed, so that it
            does not blame its clients.
    """

    def __init__(self, interval_seconds: float) -> None:
        self.now = 0.0
        self._interval_seconds = interval_seconds
        self._last = 0.0
        self._ticking = False

    def watch(self, loop: asyncio.AbstractEventLoop, connections: Set[Watched]) -> None:
        """Ticks as long as there are connections in the set."""
        if not self._ticking:
            self._ticking = True
            self._last = loop.time()
            loop.call_later(self._interval_seconds, self._tick, loop, connections)

    def _tick(self, loop: asyncio.AbstractEventLoop, connections: Set[Watched]) -> None:
        self._ticking = False
        if not connections:
            return
        step = min(loop.time() - self._last, 2 * self._interval_seconds)
        self.now += step
        self.watch(loop, connections)  # first, so that it goes on whatever happens
        for connection in tuple(connections):
            connection.check(step)
