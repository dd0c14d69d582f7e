"""The threads that prepare rows beside the device."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")

MOST_AT_ONCE = 8  # what a thread has taken, others cannot help with


class Decoders(Generic[T]):
    """A pool of threads over one queue.

    A thread takes its share of what waits, not one row at a time: under load, handing a short text from thread to thread
    costs more than preparing it.

    Args:
        threads: how many.
        prepare: called with the number of the thread and an item; handles its own errors.
    """

    def __init__(self, threads: int, prepare: Callable[[int, T], None]) -> None:
        self._prepare = prepare
        self._queue: deque[T] = deque()
        self._idle = 0
        self._paused = False
        self._closed = False
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"decode-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, items: Iterable[T]) -> None:
        """Adds items, to be prepared in about this order."""
        with self._changed:
            self._queue.extend(items)
            if self._idle:
                self._changed.notify(len(self._queue))

    def discard(self, unwanted: Callable[[T], bool]) -> int:
        """Forgets items that no thread has taken yet; returns how many."""
        with self._changed:
            before = len(self._queue)
            self._queue = deque(item for item in self._queue if not unwanted(item))
            return before - len(self._queue)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is prepared meanwhile; first waits for what the threads have taken."""
        with self._changed:
            self._paused = True
            while self._idle < len(self._threads):
                self._changed.wait()
        try:
            yield
        finally:
            with self._changed:
                self._paused = False
                self._changed.notify_all()

    def _run(self, number: int) -> None:
        while items := self._take():
            for item in items:
                self._prepare(number, item)

    def _take(self) -> list[T]:
        with self._changed:
            self._idle += 1
            if self._paused:
                self._changed.notify_all()
            while (self._paused or not self._queue) and not self._closed:
                self._changed.wait()
            self._idle -= 1
            if self._closed:
                return []
            share = -(-len(self._queue) // len(self._threads))
            return [self._queue.popleft() for _ in range(min(share, MOST_AT_ONCE))]

    def close(self) -> None:
        """Ends the threads once each has prepared what it took, and forgets the rest."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
