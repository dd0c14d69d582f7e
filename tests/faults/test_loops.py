from __future__ import annotations

import asyncio
import statistics
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.load import run_load
from tests.faults.loops import arrivals
from tests.faults.request import EchoRequests, Request
from tests.faults.scripted_server import Act, Asked, ScriptedServer, rightly


def after(seconds: float) -> Act:
    async def act(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)
        await rightly(asked, writer)

    return act


@settings(deadline=None)
@given(st.floats(1, 2000), st.floats(0.01, 2), st.integers(0, 100))
def test_arrivals_are_in_order_and_within_the_time(rate: float, seconds: float, seed: int) -> None:
    for spacing in ("poisson", "even"):
        times = arrivals(rate, seconds, spacing, seed)
        assert all(0 <= time < seconds + 1 / rate for time in times)
        assert all(before <= after for before, after in pairwise(times))
        assert times == arrivals(rate, seconds, spacing, seed)


def test_poisson_arrivals_have_the_rate_and_the_spread() -> None:
    times = arrivals(100, 200, "poisson", seed=3)
    gaps = [after - before for before, after in pairwise(times)]
    assert len(times) == pytest.approx(20_000, rel=0.05)
    assert statistics.stdev(gaps) == pytest.approx(statistics.mean(gaps), rel=0.05)  # as in an exponential distribution
    assert times != arrivals(100, 200, "poisson", seed=4)


def test_even_arrivals() -> None:
    assert list(arrivals(10, 0.5, "even")) == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_a_closed_loop_waits_for_the_server() -> None:
    with ScriptedServer(default=after(0.05)) as server:
        tally = run_load(server.port, connections=2, seconds=0.5)
    assert 2 <= tally.sent <= 22
    assert server.connections == 2  # kept alive
    assert tally.ok == tally.sent == len(server.asked)
    assert tally.p(0.01) >= 0.05
    assert tally.late == 0


def test_a_closed_loop_sends_so_many_requests() -> None:
    with ScriptedServer() as server:
        tally = run_load(server.port, connections=7, requests=100)
    assert tally.sent == tally.ok == len(server.asked) == 100


def test_an_open_loop_does_not_wait_for_the_server() -> None:
    async def when_all_are_there(asked: Asked, writer: asyncio.StreamWriter) -> None:
        while len(server.asked) < 30:
            await asyncio.sleep(0.005)
        await rightly(asked, writer)

    with ScriptedServer(default=when_all_are_there) as server:
        tally = run_load(server.port, rate=100, seconds=0.3, spacing="even")
    assert tally.ok == tally.sent == server.connections == 30


def test_an_open_loop_uses_connections_again() -> None:
    with ScriptedServer() as server:
        tally = run_load(server.port, rate=50, seconds=0.5, spacing="even")
    assert tally.ok == 25
    assert server.connections < 20


def test_too_few_connections_make_it_late_and_it_says_so() -> None:
    """100 requests/s are due, and one connection can have 25: each waits longer, which counts."""
    with ScriptedServer(default=after(0.04)) as server:
        tally = run_load(server.port, rate=100, seconds=0.2, spacing="even", connections=1)
    assert server.connections == 1
    assert tally.ok == tally.sent == 20
    assert tally.late >= 18
    assert tally.most_late > 0.5
    assert tally.p(1.0) > 0.5 + 0.04
    assert tally.p(0.5, from_send=True) < 0.3 < tally.p(0.5)


def test_a_generator_that_is_behind_says_so() -> None:
    """It makes 50 requests/s where 100 are due: the later they are, the longer they took, but the server was quick."""
    echoes = EchoRequests()

    def make(number: int) -> Request:
        time.sleep(0.02)
        return echoes(number)

    with ScriptedServer() as server:
        tally = run_load(server.port, rate=100, seconds=0.3, spacing="even", make=make)
    assert tally.ok == 30
    assert tally.late >= 28
    assert tally.most_late >= 29 * 0.01
    assert tally.p(0.5) >= 15 * 0.01
    assert tally.p(0.5, from_send=True) < 0.1
    assert server.connections < 10  # answers were read meanwhile


def test_a_stall_is_seen_by_all_that_were_due_meanwhile() -> None:
    """A stall of 0.4 s delays, of 40 requests due in it, all: a closed loop with one connection would show it once."""

    class Stall:
        ends = 0.0

        async def __call__(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
            now = asyncio.get_running_loop().time()
            self.ends = self.ends or now + 0.4
            await asyncio.sleep(max(0.0, self.ends - now))
            await rightly(asked, writer)

    with ScriptedServer(default=Stall()) as server:
        tally = run_load(server.port, rate=100, seconds=0.6, spacing="even")
    assert tally.ok == 60
    assert tally.p(0.5) > 0.05
    assert tally.p(1.0) >= 0.39


def test_requests_without_a_connection_to_the_end_are_unsent() -> None:
    async def be_silent(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    with ScriptedServer(default=be_silent) as server:
        tally = run_load(server.port, rate=100, seconds=0.1, spacing="even", connections=2, patience=0.3)
    assert tally.sent + tally.unsent["no connection"] == 10
    assert tally.losses == {"unanswered": tally.sent}
    tally.check_conservation()


def test_an_open_loop_replaces_lost_connections() -> None:
    async def answer_and_close(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await rightly(asked, writer)
        writer.close()

    with ScriptedServer(default=answer_and_close) as server:
        tally = run_load(server.port, rate=200, seconds=0.3, spacing="even", connections=1)
    assert tally.ok + tally.lost == tally.sent == 60
    assert tally.ok >= 30  # at worst, each second one is sent just before the end of the connection is seen
    assert server.connections >= 30
    tally.check_conservation()
