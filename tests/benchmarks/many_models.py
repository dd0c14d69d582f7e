"""What grows with the number of models: publishing, disk, start, memory, listings, /metrics, and taking in one model more.

    python -m tests.benchmarks.many_models               # 100, 1,000 and 10,000 models; minutes on two cores
    python -m tests.benchmarks.many_models 1000 100000   # so many; each takes about 30 files and directories

All are heads of 2 to 20 classes on one tiny text encoder, so that what a model costs is seen, and not what its backbone does.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from models.repository import ModelRepository
from tests.benchmarks.clients import Clients
from tests.benchmarks.cpu_time import cpu_seconds
from tests.benchmarks.heads import publish
from tests.benchmarks.report import write
from tests.benchmarks.workload import Workload
from tests.faults.figure import Figure
from tests.processes import resident_bytes, wait_for
from tests.server_process import ServerProcess
from tests.tiny_models import write_tiny_text

COUNTS = (100, 1_000, 10_000)
REPORT_BYTES = 1_000  # each of three files that a version brings along
TEXTS = tuple(f"text {number}".encode() for number in range(4))
ONE_MORE = "one-more"
REPEATS = 3
IDLE_SECONDS = 5.0
MANY_SECONDS = 3600.0  # more than anything here takes


class Stopwatch:
    """What one number of models took, by name."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def measure(self, name: str, act: Callable[[], object], repeats: int = 1) -> None:
        """The median time of an action, in seconds."""
        seconds = []
        for _ in range(repeats):
            started = time.perf_counter()
            act()
            seconds.append(time.perf_counter() - started)
        self.values[name] = statistics.median(seconds)


class Pulse(threading.Thread):
    """Asks a server whether it lives, again and again; a context manager.

    Attributes:
        longest: seconds that an answer took.
    """

    def __init__(self, server: ServerProcess) -> None:
        super().__init__()
        self._server = server
        self._over = threading.Event()
        self.longest = 0.0

    def run(self) -> None:
        while not self._over.wait(0.01):
            started = time.perf_counter()
            self._server.status_of("/health/live")
            self.longest = max(self.longest, time.perf_counter() - started)

    def __enter__(self) -> Pulse:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._over.set()
        self.join()


def measure(count: int, directory: Path, backbone: str) -> dict[str, float]:
    """All figures of one number of models."""
    watch, repository, later = Stopwatch(), directory / "repository", directory / "later"
    names = [f"head-{index:06d}" for index in range(count)]
    watch.measure("publish s", lambda: publish(repository, backbone, TEXTS, names, report_bytes=REPORT_BYTES))
    watch.values["files and folders"] = sum(len(files) + len(folders) for _, folders, files in os.walk(repository))
    used = subprocess.run(["du", "-sk", repository], capture_output=True, text=True, check=True).stdout
    watch.values["disk MB"] = int(used.split()[0]) * 1024 / 1e6
    publish(later, backbone, TEXTS, [ONE_MORE], report_bytes=REPORT_BYTES)
    command = [sys.executable, "-m", "graftwork", "models", "list", "--repository", str(repository)]
    watch.measure("models list s", lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True))
    started = time.perf_counter()
    server = ServerProcess(repository=repository)
    try:
        server.wait_until_ready(MANY_SECONDS)
        watch.values["ready s"] = time.perf_counter() - started
        _measure_server(server, names, watch)
        with Pulse(server) as pulse:
            shutil.copytree(later / ONE_MORE, repository / ONE_MORE)
            ModelRepository(repository).announce()
            watch.measure("one more is served s", lambda: _wait_until_served(server))
        watch.values["longest health answer then s"] = pulse.longest
    finally:
        server.destroy()
        shutil.rmtree(directory)
    return watch.values


def _wait_until_served(server: ServerProcess) -> None:
    wait_for(lambda: server.status_of(f"/v1/models/{ONE_MORE}/metadata") == 200, MANY_SECONDS, pause=0.01)


def _measure_server(server: ServerProcess, names: list[str], watch: Stopwatch) -> None:
    (worker,), api = server.workers(), server.api()

    def get(path: str) -> int:
        reply = server.request("GET", path, timeout=MANY_SECONDS)
        assert reply.status == 200
        return len(reply.body)

    watch.values["worker MB"] = resident_bytes(worker) / 1e6
    watch.values["API process MB"] = resident_bytes(api) / 1e6
    before = cpu_seconds(server.survivors())
    time.sleep(IDLE_SECONDS)
    watch.values["idle cores"] = (cpu_seconds(server.survivors()) - before) / IDLE_SECONDS
    watch.measure("GET /v1/models s", lambda: get("/v1/models"), REPEATS)
    bodies = [b'{"instances":["a text"]}']
    asked = Workload(name="texts", items=TEXTS, bodies=bodies, content_type="application/json")
    clients = Clients(server.port, asked, [f"/v1/models/{name}:predict" for name in names])
    clients.ask_each(concurrency=16)  # so that each of them has all its metrics
    clients.close()
    watch.values["metrics MB"] = get("/metrics") / 1e6
    with Pulse(server) as pulse:
        watch.measure("GET /metrics s", lambda: get("/metrics"), REPEATS)
    watch.values["longest health answer meanwhile s"] = pulse.longest
    watch.values["API process MB, each asked"] = resident_bytes(api) / 1e6


def main() -> None:
    """Runs the benchmark and adds its figures to ``build/bench.json``."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.many_models", description=__doc__)
    parser.add_argument("counts", nargs="*", type=int, default=COUNTS, help="of models")
    counts = parser.parse_args().counts
    found: dict[int, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        encoder = Path(scratch) / "encoder"
        encoder.mkdir()
        backbone = write_tiny_text(encoder)
        for count in counts:
            directory = Path(scratch) / str(count)
            with contextlib.redirect_stdout(io.StringIO()):
                found[count] = measure(count, directory, backbone)
    table = Table("", *(f"{count:,} models" for count in counts), box=box.SIMPLE_HEAD)
    for name in found[counts[0]]:
        table.add_row(name, *(f"{found[count][name]:,.4g}" for count in counts))
    Console(width=120).print(table)
    write(
        [
            Figure(goal="", name=f"models_{count}_{name.replace(' ', '_')}", value=value)
            for count, values in found.items()
            for name, value in values.items()
        ]
    )


if __name__ == "__main__":
    main()
