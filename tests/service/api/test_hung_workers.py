"""Row L04: workers that hang are killed."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import pytest

from service.api import workers as workers_module
from service.api.worker_connection import WorkerConnection
from service.messages import Report
from tests.service.api.pool_stage import KEY, Stage, play


def hung() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])


def test_l04_a_silent_worker_is_killed_and_one_that_speaks_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "TICK_SECONDS", 0.05)
    silent, speaking = hung(), hung()

    async def story(stage: Stage) -> None:
        await stage.connect(KEY, pid=silent.pid)
        speaker = await stage.connect(KEY, index=1, pid=speaking.pid)
        watching = asyncio.create_task(stage.pool.watch())
        while silent.poll() is None:
            speaker.say(Report())
            await asyncio.sleep(0.01)
        assert silent.wait() == -signal.SIGKILL
        assert speaking.poll() is None
        watching.cancel()

    try:
        play(story, silence_seconds=0.5)
    finally:
        speaking.kill()
        speaking.wait()


def test_l04_a_worker_that_computes_for_too_long_is_killed_though_it_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "TICK_SECONDS", 0.02)
    process = hung()

    async def story(stage: Stage) -> None:
        worker = await stage.connect(KEY, pid=process.pid)
        watching = asyncio.create_task(stage.pool.watch())
        for _ in range(20):
            worker.say(Report(busy_seconds=29.9))
            await asyncio.sleep(0.01)
            assert process.poll() is None
        while process.poll() is None:
            worker.say(Report(busy_seconds=30.1))
            await asyncio.sleep(0.01)
        assert process.wait() == -signal.SIGKILL
        watching.cancel()

    play(story, busy_seconds=30.0)


class Ticks:
    """The clock of `WorkerPool.watch`, which ticks when a test says so, and the workers that it would kill."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.killed: list[WorkerConnection] = []
        self._given: asyncio.Queue[None] = asyncio.Queue()
        monkeypatch.setattr(WorkerConnection, "kill", lambda connection, why: self.killed.append(connection))

    async def sleep(self, seconds: float) -> None:
        await self._given.get()

    async def give(self, connection: WorkerConnection, watching: asyncio.Task[None]) -> None:
        """Ticks once, and waits until the connection has counted it."""
        before = connection.silent_ticks
        self._given.put_nowait(None)
        while connection.silent_ticks == before:
            await asyncio.wait([watching], timeout=0.001)


def test_l04_silence_is_counted_in_ticks_not_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was itself stopped for an hour must not blame its workers."""
    ticks = Ticks(monkeypatch)

    async def story(stage: Stage) -> None:
        await stage.connect(KEY)
        (connection,) = stage.pool.connections
        hours = 0.0
        with monkeypatch.context() as patched:
            patched.setattr(workers_module.asyncio, "sleep", ticks.sleep)
            patched.setattr(workers_module.time, "monotonic", lambda: hours)
            watching = asyncio.create_task(stage.pool.watch())
            for number in range(1, 5):
                hours += 3600
                await ticks.give(connection, watching)
                assert len(ticks.killed) == (1 if number > 3 else 0)
            watching.cancel()

    play(story, silence_seconds=3.0)


def test_l04_a_worker_that_was_stopped_with_a_batch_in_its_hands_may_finish_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the whole server, say: its clock went on, and its first report says that the batch takes very long."""
    ticks = Ticks(monkeypatch)

    async def story(stage: Stage) -> None:
        worker = await stage.connect(KEY)
        (connection,) = stage.pool.connections
        with monkeypatch.context() as patched:
            patched.setattr(workers_module.asyncio, "sleep", ticks.sleep)
            watching = asyncio.create_task(stage.pool.watch())
            for busy, hung_ticks, deaths in [(3600.0, 1, 0), (3601.0, 2, 0), (0.1, 0, 0), *STUCK]:
                worker.say(Report(busy_seconds=busy))
                while connection.busy_seconds != busy:
                    await asyncio.wait([watching], timeout=0.001)
                await ticks.give(connection, watching)
                assert (connection.hung_ticks, len(ticks.killed)) == (hung_ticks, deaths)
            watching.cancel()

    play(story, busy_seconds=30.0)


STUCK = [(30.0 + tick, tick, max(0, tick - workers_module.HUNG_TICKS)) for tick in range(1, 6)]
