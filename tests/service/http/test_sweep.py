from __future__ import annotations

import asyncio
import time

import pytest

from service.http.sweep import Sweep

INTERVAL = 0.02


class Watched:
    def __init__(self) -> None:
        self.steps: list[float] = []

    def check(self, step_seconds: float) -> None:
        self.steps.append(step_seconds)


def test_every_connection_is_looked_at_and_the_clock_goes_on() -> None:
    sweep = Sweep(INTERVAL)
    first, second = Watched(), Watched()

    async def run() -> None:
        connections = {first}
        sweep.watch(asyncio.get_running_loop(), connections)
        sweep.watch(asyncio.get_running_loop(), connections)  # once is enough
        while len(first.steps) < 3:
            await asyncio.sleep(INTERVAL / 4)
        connections.add(second)
        while len(second.steps) < 3:
            await asyncio.sleep(INTERVAL / 4)

    asyncio.run(run())
    assert len(first.steps) == len(second.steps) + 3
    assert sweep.now == pytest.approx(sum(first.steps))
    assert all(INTERVAL * 0.9 < step <= 2 * INTERVAL for step in first.steps)


def test_the_clock_stands_still_without_connections_and_goes_on_with_the_next() -> None:
    sweep = Sweep(INTERVAL)
    watched = Watched()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        connections = {watched}
        sweep.watch(loop, connections)
        while not watched.steps:
            await asyncio.sleep(INTERVAL / 4)
        connections.clear()
        await asyncio.sleep(3 * INTERVAL)
        now = sweep.now
        await asyncio.sleep(3 * INTERVAL)
        assert sweep.now == now
        connections.add(watched)
        sweep.watch(loop, connections)
        while len(watched.steps) < 2:
            await asyncio.sleep(INTERVAL / 4)

    asyncio.run(run())
    assert watched.steps[1] <= 2 * INTERVAL


def test_time_in_which_the_server_did_not_run_does_not_count() -> None:
    sweep = Sweep(INTERVAL)
    watched = Watched()

    async def run() -> None:
        sweep.watch(asyncio.get_running_loop(), {watched})
        time.sleep(20 * INTERVAL)  # a busy server, or one that was stopped
        while not watched.steps:
            await asyncio.sleep(INTERVAL / 4)

    asyncio.run(run())
    assert watched.steps[0] == 2 * INTERVAL


def test_a_connection_that_fails_stops_nothing() -> None:
    class Broken(Watched):
        def check(self, step_seconds: float) -> None:
            super().check(step_seconds)
            raise ValueError

    sweep = Sweep(INTERVAL)
    broken = Broken()
    failures: list[object] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: failures.append(context["exception"]))
        sweep.watch(loop, {broken})
        while len(broken.steps) < 3:
            await asyncio.sleep(INTERVAL / 4)

    asyncio.run(run())
    assert len(failures) >= 2
