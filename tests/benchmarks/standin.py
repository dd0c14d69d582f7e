"""A worker process whose engine takes time, but no library: what `tests.benchmarks.hop` measures.

    python -m tests.benchmarks.standin SOCKET MEMORY   # a path, and the number of an open file

Its versions, by name:

    taken      a row is its bytes
    fetched    a row is a place in shared memory, where its bytes are copied from
    pooled     an image, decoded by the threads that decode beside the engine
    serial     an image, decoded by the thread that then runs the engine
"""

from __future__ import annotations

import hashlib
import io
import mmap
import os
import sys
import time
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from service.messages import Hello
from service.pending import PendingRow
from service.worker import serve_socket

CORES = len(os.sched_getaffinity(0))
SECONDS_AN_IMAGE = 0.006  # of one core: EfficientNet-Lite0 in int8
MOST_ROWS = 32


class Engine:
    """As many threads as cores, which share the rows of a batch; they work without the interpreter's lock."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(CORES)
        rounds, cpu = 100_000, min(_cpu_seconds_of(100_000) for _ in range(10))
        self._rounds = int(rounds * SECONDS_AN_IMAGE / cpu)

    def run(self, rows: int) -> None:
        shares = [len(range(core, rows, CORES)) for core in range(CORES)]
        list(self._threads.map(lambda share: [_work(self._rounds) for _ in range(share)], shares))


def _work(rounds: int) -> None:
    hashlib.pbkdf2_hmac("sha256", b"", b"", rounds)


def _cpu_seconds_of(rounds: int) -> float:
    started = time.thread_time()
    _work(rounds)
    return time.thread_time() - started


def decode(data: bytes) -> bytes:
    """224x224 pixels of an image file."""
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (256, 256))
    return image.resize((224, 224), Image.Resampling.BICUBIC).tobytes()


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """A version; a `service.servable.Servable`."""

    name: str
    engine: Engine
    memory: mmap.mmap
    backbone: str = "standin"

    def prepare(self, item: bytes, *, truncate: bool) -> tuple[bytes, Hashable]:
        if self.name == "fetched":
            start, end = map(int, item.split())
            item = self.memory[start:end]
        elif self.name == "pooled":
            item = decode(item)
        return item, self.name

    def compute(self, batch: Sequence[PendingRow]) -> Sequence[Mapping[str, object]]:
        rows: list[bytes] = [waiting.row for waiting in batch]
        if self.name == "serial":
            rows = [decode(row) for row in rows]
        if self.name in ("pooled", "serial"):
            self.engine.run(len(rows))
        return [{"bytes": len(row)} for row in rows]


class StandIns:
    """All versions; a `service.servable.Servables`."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._engine = Engine()
        self._memory = memory

    def load(self, name: str, number: int) -> StandIn:
        return self.get(name, number)

    def unload(self, name: str, number: int) -> None:
        pass

    def get(self, name: str, number: int) -> StandIn:
        return StandIn(name=name, engine=self._engine, memory=self._memory)


def main() -> None:
    """Serves until the other end of the socket is closed."""
    path, memory = Path(sys.argv[1]), mmap.mmap(int(sys.argv[2]), 0)
    hello = Hello(worker=0, pid=os.getpid(), device="cpu")
    serve_socket(path, hello, StandIns(memory), threads=CORES, max_batch_rows=MOST_ROWS)


if __name__ == "__main__":
    main()
