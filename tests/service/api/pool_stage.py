"""A pool of workers that a test plays."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from models.errors import WorkerLost
from service.api.admission import Admission
from service.api.metrics import Metrics
from service.api.worker_connection import Reply, WorkerConnection
from service.api.workers import WorkerPool
from service.messages import Load, Loaded
from tests.service.echo_engine import SERVING
from tests.service.scripted_worker import ScriptedWorker, perform, until

KEY = ("m", 1)
MAX_BACKLOG = 1 << 20


class Stage:
    """A pool, and workers that connect to it.

    Attributes:
        admission: what the pool tells of batches.
        may_settle: closed, workers that connect have not loaded everything yet.
    """

    def __init__(self, directory: Path, *, silence_seconds: float = 3.0, busy_seconds: float = 30.0) -> None:
        self.metrics = Metrics("0")
        self.admission = Admission(max_rows=64, max_bytes=1 << 20, workers=1, metrics=self.metrics)
        self.pool = WorkerPool(
            self.metrics,
            self.admission,
            self._on_connect,
            directory,
            silence_seconds=silence_seconds,
            busy_seconds=busy_seconds,
            max_backlog=MAX_BACKLOG,
        )
        self.may_settle = asyncio.Event()
        self.may_settle.set()
        self._directory = directory
        self._wanted: list[tuple[str, int]] = []
        self._workers: list[ScriptedWorker] = []

    async def _on_connect(self, connection: WorkerConnection) -> None:
        await self.may_settle.wait()
        with suppress(WorkerLost):
            for name, number in self._wanted:
                await connection.load(name, number)

    async def call(self, *, index: int = 0, pid: int | None = None) -> ScriptedWorker:
        """Somebody connects, and says nothing yet."""
        ours, theirs = socket.socketpair()
        await asyncio.get_running_loop().connect_accepted_socket(self.pool.connection, ours)
        streams = await asyncio.open_connection(sock=theirs)
        self._workers.append(ScriptedWorker(*streams, self._directory, index=index, pid=pid))
        return self._workers[-1]

    async def connect(self, *loaded: tuple[str, int], index: int = 0, pid: int | None = None) -> ScriptedWorker:
        """A worker that says hello, is asked for some versions and has them."""
        self._wanted = list(loaded)
        count = len(self.pool.connections)
        worker = await self.call(index=index, pid=pid)
        worker.say(worker.hello)
        for name, number in loaded:
            assert (await worker.hear())[0] == Load(name=name, number=number)
            worker.say(Loaded(name=name, number=number, serving=SERVING))
        await until(lambda: len(self.pool.connections) > count)
        await until(lambda: self.pool.connections[-1].settled or not self.may_settle.is_set())
        return worker

    async def end(self) -> None:
        for worker in self._workers:
            worker.hang_up()
        await until(lambda: not self.pool._tasks and not self.pool.connections)

    def ask(self, *items: bytes, name: str = "m", number: int = 1) -> asyncio.Task[Reply]:
        deadline = time.monotonic() + 60
        predicting = self.pool.predict(name, number, items or [b"?"], deadline=deadline)
        return asyncio.create_task(predicting, name="request")

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


def play(story: Callable[[Stage], Coroutine[Any, Any, None]], **patience: float) -> None:
    async def on_stage() -> None:
        with tempfile.TemporaryDirectory(prefix="gw-test-") as directory:
            stage = Stage(Path(directory), **patience)
            try:
                await story(stage)
            finally:  # uvloop waits for connections that are left open
                await stage.end()

    perform(on_stage)
