"""Which rows a worker has in its hands; readable after it died, however it died.

A worker notes each row before it decodes it, and each batch before it computes it, in a small file mapped into memory: a few
stores, no system call. When its connection ends, the API process reads from it which rows may have been the cause; all others
merely waited. The worker itself reads from it for how long it has been at the same thing.
"""

from __future__ import annotations

import logging
import mmap
import os
import struct
import time
from collections.abc import Iterable
from pathlib import Path

logger = logging.getLogger(__name__)

_ROW = struct.Struct("<QI")  # request id + 1, as zeros mean nothing; index of the row in its request
_ANSWERED = (0, 1)  # what stands in the first place, which is no row, once a batch was computed


class FlightRecord:
    """The notes of one worker. Each decoding thread has one place of its own, each compute thread one for each row of a batch.

    Args:
        path: of the file, which is made.
        decode_threads: how many rows are decoded at a time.
        compute_threads: how many batches are computed at a time.
        max_batch_rows: rows of a batch.
    """

    def __init__(self, path: Path, *, decode_threads: int, compute_threads: int, max_batch_rows: int) -> None:
        first, self._batch_size = (1 + decode_threads) * _ROW.size, max_batch_rows * _ROW.size
        self._batch_starts = [first + thread * self._batch_size for thread in range(compute_threads)]
        self._noted = [0] * compute_threads  # bytes of the batch that stands there
        size = first + compute_threads * self._batch_size
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.posix_fallocate(handle, 0, size)  # on a full disk, a note in a file without blocks would be a SIGBUS
            self._map = mmap.mmap(handle, size)
        except OSError as error:
            logger.warning("no flight record can be kept: %s", error.strerror)
            self._map = mmap.mmap(-1, size)
        finally:
            os.close(handle)
        self._since: list[float | None] = [None] * (compute_threads + decode_threads)  # since when hands are full

    def decoding(self, thread: int, request: int, row: int) -> None:
        """A thread starts to decode a row."""
        _ROW.pack_into(self._map, (1 + thread) * _ROW.size, request + 1, row)
        self._since[len(self._noted) + thread] = time.monotonic()

    def decoded(self, thread: int) -> None:
        """A thread has nothing in its hands."""
        _ROW.pack_into(self._map, (1 + thread) * _ROW.size, 0, 0)
        self._since[len(self._noted) + thread] = None

    def computing(self, rows: Iterable[tuple[int, int]], thread: int = 0) -> None:
        """A compute thread starts a batch; each row is a request id and an index."""
        self._note_batch(thread, b"".join([_ROW.pack(request + 1, row) for request, row in rows]))
        self._since[thread] = time.monotonic()

    def computed(self, thread: int = 0) -> None:
        """A compute thread has nothing in its hands."""
        self._note_batch(thread, b"")
        _ROW.pack_into(self._map, 0, *_ANSWERED)
        self._since[thread] = None

    def busy_seconds(self) -> float:
        """For how long the row or the batch that is longest in a thread's hands has been there; 0 where all hands are empty."""
        began = [since for since in self._since if since is not None]
        return time.monotonic() - min(began) if began else 0.0

    def _note_batch(self, thread: int, batch: bytes) -> None:
        start, before = self._batch_starts[thread], self._noted[thread]
        self._noted[thread] = len(batch)
        self._map[start : start + max(before, len(batch))] = batch.ljust(before, b"\0")

    @staticmethod
    def has_answered(path: Path) -> bool:
        """Whether a worker ever computed a batch."""
        try:
            return path.read_bytes()[: _ROW.size] == _ROW.pack(*_ANSWERED)
        except OSError:
            return False

    @staticmethod
    def read(path: Path) -> set[tuple[int, int]]:
        """Request id and index of every row that a worker had in its hands; nothing where it left no record."""
        try:
            data = path.read_bytes()
        except OSError:
            return set()
        return {(request - 1, row) for request, row in _ROW.iter_unpack(data) if request}
