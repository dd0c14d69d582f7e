"""A worker process whose decoder and engine take time, but no computer: what `tests.benchmarks.hop` measures.

    python -m tests.benchmarks.standin SOCKET MEMORY   # a path, and the number of an open file

Its versions, by name:

    taken      a row is its bytes
    fetched    a row is a place in shared memory, where its bytes are copied from
    pooled     an image, decoded by the threads that decode beside the engine; the engine uses all cores
    serial     an image, decoded by the thread that then runs the engine; the engine uses all cores
    pooled1    as pooled, but the engine uses one core
    serial1    as serial, but the engine uses one core
"""

from __future__ import annotations

import mmap
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from models.batch_cost import UNMEASURED, BatchCost
from service.messages import Form, Hello, Serving
from service.worker.pending import PendingRow
from service.worker.servable import Prepared
from service.worker.worker import serve_socket

CORES = 2
SERVING = Serving(engine="standin", precision="fp32", reason="it is the only one")
DECODE_SECONDS = 0.003  # of a core, an image: a JPEG of 640x480 to 224x224
ENGINE_SECONDS = 0.006  # of a core, an image: EfficientNet-Lite0 in int8
MOST_ROWS = 32


class Computer:
    """So many cores; who works holds one. They are pretended, so that other work on the real ones changes little."""

    def __init__(self) -> None:
        self._cores = threading.Semaphore(CORES)
        self._engine = ThreadPoolExecutor(CORES)

    def decode(self) -> None:
        self._work(DECODE_SECONDS)

    def run(self, rows: int, cores: int) -> None:
        """The engine, which divides the rows of a batch among cores."""
        shares = [len(range(core, rows, cores)) for core in range(cores)]
        list(self._engine.map(lambda share: [self._work(ENGINE_SECONDS) for _ in range(share)], shares))

    def _work(self, seconds: float) -> None:
        with self._cores:
            time.sleep(seconds)


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """A version; a `service.worker.servable.Servable`."""

    name: str
    computer: Computer
    memory: mmap.mmap
    backbone: str = "standin"
    streams: int = 1
    serving: Serving = SERVING
    cost: BatchCost = UNMEASURED

    def prepare(self, item: bytes, form: Form = "item", *, truncate: bool = False) -> Prepared:
        if self.name == "fetched":
            start, end = map(int, item.split())
            item = self.memory[start:end]
        elif self.name.startswith("pooled"):
            self.computer.decode()
        return Prepared(item, self.name)

    def compute(self, batch: Sequence[PendingRow]) -> Sequence[Mapping[str, object]]:
        rows: list[bytes] = [waiting.row for waiting in batch]
        if self.name.startswith("serial"):
            for _ in rows:
                self.computer.decode()
        if self.name.startswith(("pooled", "serial")):
            self.computer.run(len(rows), cores=1 if self.name.endswith("1") else CORES)
        return [{"bytes": len(row)} for row in rows]


class StandIns:
    """All versions; a `service.worker.servable.Servables`."""

    fleet = None

    def __init__(self, memory: mmap.mmap) -> None:
        self._computer = Computer()
        self._memory = memory

    def load(self, name: str, number: int) -> StandIn:
        return self.get(name, number)

    def unload(self, name: str, number: int) -> None:
        pass

    def get(self, name: str, number: int) -> StandIn:
        return StandIn(name=name, computer=self._computer, memory=self._memory)


def main() -> None:
    """Serves until the other end of the socket is closed."""
    path, memory = Path(sys.argv[1]), mmap.mmap(int(sys.argv[2]), 0)
    hello = Hello(worker=0, pid=os.getpid(), device="cpu")
    serve_socket(path, hello, StandIns(memory), threads=CORES, max_batch_rows=MOST_ROWS)


if __name__ == "__main__":
    main()
