"""The way from the API process to a worker and back, without HTTP.

    python -m tests.benchmarks.hop

Two questions. What does it cost to send a payload through the socket, as the server does, beside leaving it in shared memory
and sending where it is? And how many images a second does a worker answer that decodes them beside the engine, as ours does,
and one whose only thread decodes a batch and then runs the engine? That computer is pretended; see `tests.benchmarks.standin`.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop
from rich import box
from rich.console import Console
from rich.table import Table

from service.api.worker_connection import WorkerConnection
from service.messages import Predict
from tests.benchmarks.cpu_time import cpu_seconds
from tests.benchmarks.report import write
from tests.benchmarks.standin import CORES, DECODE_SECONDS, ENGINE_SECONDS
from tests.faults.figure import Figure

SIZES = {"100B": 100, "70kB": 70_000, "1MB": 1_000_000}
KINDS = {
    "pooled": "beside an engine on all cores",
    "serial": "before it runs an engine on all cores",
    "pooled1": "beside an engine on one core",
    "serial1": "before it runs an engine on one core",
}
IN_FLIGHT = 32
ROUNDS = 5
SECONDS = float(os.environ.get("GRAFTWORK_BENCH_SECONDS", "2"))
HOP_SECONDS = SECONDS / 4
_IMAGE = bytes(70_000)


@dataclass(frozen=True, kw_only=True)
class Hop:
    """A connected worker, asked by ``IN_FLIGHT`` clients in a closed loop."""

    connection: WorkerConnection
    memory: mmap.mmap
    pid: int

    async def ask(self, name: str, item: bytes) -> int:
        """How many bytes the row had at its end."""
        request = Predict(id=0, name=name, number=1, sizes=[len(item)], deadline=time.monotonic() + 60)
        reply = await self.connection.predict(request, [item])
        return int(json.loads(reply.payload)[0]["bytes"])

    async def by_socket(self, client: int, data: bytes) -> int:
        return await self.ask("taken", data)

    async def by_memory(self, client: int, data: bytes) -> int:
        start = client * max(SIZES.values())
        end = start + len(data)
        self.memory[start:end] = data
        return await self.ask("fetched", b"%d %d" % (start, end))

    async def cost(self, way: str, size: int) -> float:
        """Microseconds of CPU time a request, of both processes."""
        data, send = os.urandom(size), self.by_socket if way == "socket" else self.by_memory
        until = time.monotonic() + HOP_SECONDS

        async def client(number: int) -> int:
            count = 0
            while time.monotonic() < until:
                assert await send(number, data) == size
                count += 1
            return count

        before = cpu_seconds([os.getpid(), self.pid])
        counts = await asyncio.gather(*map(client, range(IN_FLIGHT)))
        return (cpu_seconds([os.getpid(), self.pid]) - before) / sum(counts) * 1e6

    async def images(self, name: str) -> float:
        """Images a second."""
        started = time.monotonic()

        async def client() -> int:
            count = 0
            while time.monotonic() - started < SECONDS:
                await self.ask(name, _IMAGE)
                count += 1
            return count

        counts = await asyncio.gather(*(client() for _ in range(IN_FLIGHT)))
        return sum(counts) / (time.monotonic() - started)


@asynccontextmanager
async def connected() -> AsyncIterator[Hop]:
    """A worker process of stand-ins."""
    size = IN_FLIGHT * max(SIZES.values())
    file = os.memfd_create("hop")
    os.truncate(file, size)
    with tempfile.TemporaryDirectory(prefix="gw-bench-") as directory, mmap.mmap(file, size) as memory:
        path, hello = Path(directory) / "workers.sock", asyncio.Event()
        connection = WorkerConnection(Path(directory), lambda *_: hello.set(), lambda _: None)
        await asyncio.get_running_loop().create_unix_server(lambda: connection, path)
        command = [sys.executable, "-m", "tests.benchmarks.standin", str(path), str(file)]
        worker = subprocess.Popen(command, pass_fds=[file])
        try:
            async with asyncio.timeout(60):
                await hello.wait()
            yield Hop(connection=connection, memory=memory, pid=worker.pid)
        finally:
            worker.kill()
            worker.wait()
            os.close(file)


async def measure_payloads(hop: Hop) -> list[Figure]:
    costs: dict[tuple[str, str], list[float]] = {(way, size): [] for size in SIZES for way in ("socket", "memory")}
    for _ in range(ROUNDS):
        for way, size in costs:
            costs[way, size].append(await hop.cost(way, SIZES[size]))
    table = Table("payload", "socket", "shared memory", title="CPU us a request, both processes", box=box.SIMPLE_HEAD)
    median = {key: statistics.median(each) for key, each in costs.items()}
    for size in SIZES:
        table.add_row(size, f"{median['socket', size]:.0f}", f"{median['memory', size]:.0f}")
    Console().print(table)
    return [
        Figure(goal="", name=f"hop_{way}_{size}", value=cost, unit="us/request") for (way, size), cost in median.items()
    ]


async def measure_images(hop: Hop) -> list[Figure]:
    rates: dict[str, list[float]] = {name: [] for name in KINDS}
    for _ in range(ROUNDS):
        for name in KINDS:
            rates[name].append(await hop.images(name))
    limit = CORES / (DECODE_SECONDS + ENGINE_SECONDS)
    median = {name: statistics.median(each) for name, each in rates.items()}
    table = Table("a worker that decodes", "images/s", "of the limit", box=box.SIMPLE_HEAD)
    for name, kind in KINDS.items():
        table.add_row(kind, f"{median[name]:.0f}", f"{median[name] / limit:.2f}")
    table.add_row(f"{CORES} cores that never wait", f"{limit:.0f}", "1.00")
    Console().print(table)
    return [Figure(goal="", name=f"hop_images_{name}", value=rate, unit="images/s") for name, rate in median.items()]


async def measure() -> list[Figure]:
    async with connected() as hop:
        return [*await measure_payloads(hop), *await measure_images(hop)]


def main() -> None:
    """Runs the benchmark and adds its figures to ``build/bench.json``."""
    write(uvloop.run(measure()))


if __name__ == "__main__":
    main()
