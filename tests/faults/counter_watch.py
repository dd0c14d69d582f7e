"""Looks at ``/metrics`` again and again: counters never go down."""

from __future__ import annotations

import http.client
import threading
from types import TracebackType
from typing import Self

from tests.faults.metrics import Labels, metrics

_COUNTERS = ("_total", "_bucket", "_count", "_sum")


class CounterWatch:
    """Scrapes all the while that it is entered.

    Args:
        port: of the server.
        interval: seconds between two scrapes.

    Attributes:
        scrapes: how many there were.
        decreases: of every counter that went down or was gone, what it was.
    """

    def __init__(self, port: int, *, interval: float = 0.1) -> None:
        self.scrapes = 0
        self.decreases: list[str] = []
        self._port = port
        self._interval = interval
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        before: dict[tuple[str, Labels], float] = {}
        while not self._over.wait(self._interval):
            try:
                found = metrics(self._port)
            except (OSError, http.client.HTTPException):
                self.decreases.append("no answer")
                continue
            now = {
                (name, labels): value
                for name, samples in found.items()
                if name.endswith(_COUNTERS)
                for labels, value in samples.items()
            }
            self.decreases += [f"{name} was {was}" for name, was in before.items() if now.get(name, -1.0) < was]
            before = now
            self.scrapes += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
