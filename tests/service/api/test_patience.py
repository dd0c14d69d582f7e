from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect

from models.errors import DeadlineExceeded, InvalidParameter
from service.api.patience import Deadlines, Patience, timeout_seconds
from tests.service.site import Client

LONG = 60.0


def play(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(30):
            await story()
            await asyncio.sleep(0)  # nothing is left that would cancel this
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0

    asyncio.run(run())


async def forever() -> None:
    await asyncio.Event().wait()


def test_work_that_ends_in_time_is_not_disturbed() -> None:
    async def story() -> None:
        client = Client()
        with Patience(LONG, client, Deadlines()) as patience:
            assert patience.deadline == pytest.approx(time.monotonic() + LONG, abs=1)
            assert client.callback is not None
            await asyncio.sleep(0)
        assert client.callback is None

    play(story)


def test_an_error_of_the_work_itself_is_passed_on() -> None:
    async def story() -> None:
        with pytest.raises(ZeroDivisionError), Patience(LONG, None, Deadlines()):
            raise ZeroDivisionError

    play(story)


def test_o05_the_deadline_ends_the_work() -> None:
    async def story() -> None:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"within 0\.05 s"), Patience(0.05, Client(), Deadlines()):
            await forever()
        assert 0.04 < time.monotonic() - started < 0.05 + 0.25

    play(story)


def test_o04_a_client_that_hangs_up_ends_the_work() -> None:
    async def story() -> None:
        client = Client()
        asyncio.get_running_loop().call_soon(client.hang_up)
        with pytest.raises(ClientDisconnect), Patience(LONG, client, Deadlines()):
            await forever()
        assert client.callback is None

    play(story)


def test_only_the_first_reason_counts() -> None:
    async def story() -> None:
        client = Client()
        patience = Patience(LONG, client, Deadlines())
        asyncio.get_running_loop().call_soon(client.hang_up)
        asyncio.get_running_loop().call_soon(patience.expire)
        with pytest.raises(ClientDisconnect), patience:
            await forever()

    play(story)


def test_one_timer_keeps_every_deadline() -> None:
    async def story() -> None:
        deadlines, ended = Deadlines(), []

        async def wait(seconds: float) -> None:
            with pytest.raises(DeadlineExceeded), Patience(seconds, None, deadlines):
                await forever()
            ended.append(seconds)

        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            for seconds in (0.12, 0.04, 0.2, 0.08, 0.04):
                tasks.create_task(wait(seconds))
            with Patience(0.01, None, deadlines):
                pass  # the first deadline is of work that is done
        assert ended == [0.04, 0.04, 0.08, 0.12, 0.2]

    play(story)


def test_nothing_is_left_of_a_deadline_once_the_work_has_ended() -> None:
    async def story() -> None:
        with Patience(0.02, None, Deadlines()) as patience:
            pass
        while time.monotonic() < patience.deadline + 0.02:  # a timer that was left behind would cancel this
            await asyncio.sleep(0.005)

    play(story)


def test_a_deadline_that_passes_as_the_work_ends_changes_nothing_after_it() -> None:
    async def story() -> None:
        for _ in range(20):
            with suppress(DeadlineExceeded), Patience(0.001, None, Deadlines()):
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.001)

    play(story)


def test_work_cancelled_by_somebody_else_is_cancelled() -> None:
    async def story() -> None:
        async def work() -> None:
            with Patience(LONG, Client(), Deadlines()):
                await forever()

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    play(story)


def test_work_cancelled_by_both_is_cancelled() -> None:
    """The server that stops must see its requests end, whatever their clients do at that moment."""

    async def story() -> None:
        client = Client()

        async def work() -> None:
            with Patience(LONG, client, Deadlines()):
                await forever()

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        client.hang_up()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    play(story)


def test_a_timeout_of_the_work_itself_is_its_own() -> None:
    async def story() -> None:
        with Patience(LONG, None, Deadlines()):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await forever()
            await asyncio.sleep(0)

    play(story)


def test_a_timeout_of_the_work_itself_does_not_hide_the_deadline() -> None:
    async def story() -> None:
        client = Client()
        asyncio.get_running_loop().call_soon(client.hang_up)
        with pytest.raises(ClientDisconnect), Patience(LONG, client, Deadlines()):
            async with asyncio.timeout(LONG):
                await forever()

    play(story)


@pytest.mark.parametrize(("header", "seconds"), [("5", 5.0), ("0.25", 0.25), ("1e1", 10.0), ("inf", math.inf)])
def test_a_timeout_is_a_number_of_seconds(header: str, seconds: float) -> None:
    assert timeout_seconds(header) == seconds


@pytest.mark.parametrize(("wanted", "seconds"), [(5.0, 5.0), (0.25, 0.25), (31.0, 30.0), (math.inf, 30.0)])
def test_a_client_may_ask_for_less_than_the_server_allows(wanted: float, seconds: float) -> None:
    async def story() -> None:
        began = time.monotonic()
        with Patience(30.0, None, Deadlines()) as patience:
            patience.limit(wanted)
            assert patience.deadline == pytest.approx(began + seconds, abs=1.0)

    play(story)


def test_a_deadline_that_is_brought_forward_ends_the_work() -> None:
    async def story() -> None:
        deadlines = Deadlines()

        async def limited() -> None:
            with Patience(LONG, None, deadlines) as patience:
                patience.limit(0.01)
                await forever()

        with Patience(LONG, None, deadlines), pytest.raises(DeadlineExceeded, match=r"within 0\.01 s"):
            await limited()

    play(story)


@pytest.mark.parametrize("header", ["", "0", "-1", "-inf", "nan", "soon", "5s", "0x10", "1,5"])
def test_a_timeout_that_is_no_positive_number_is_refused(header: str) -> None:
    with pytest.raises(InvalidParameter, match="X-Request-Timeout"):
        timeout_seconds(header)


@given(st.text())
def test_any_header_is_a_timeout_within_bounds_or_refused(header: str) -> None:
    with suppress(InvalidParameter):
        assert timeout_seconds(header) > 0


def test_who_has_got_a_part_waits_as_long_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        with Patience(LONG, None, Deadlines()) as patience:
            begun = patience.deadline - LONG
            monkeypatch.setattr(time, "monotonic", lambda: begun + 40)
            patience.renew()
            assert patience.deadline == begun + 40 + LONG
        monkeypatch.undo()

    play(story)


def test_a_client_who_says_how_long_it_waits_does_not_wait_longer() -> None:
    async def story() -> None:
        with Patience(LONG, None, Deadlines()) as patience:
            patience.limit(2 * LONG)
            deadline = patience.deadline
            patience.renew()
            assert patience.deadline == deadline

    play(story)
