"""Rows L01 and L02: workers that are lost, and the requests that they owed."""

from __future__ import annotations

import asyncio
import time

import pytest

from models.errors import NotReady, WorkerLost
from service.api import workers as workers_module
from tests.service.api.pool_stage import KEY, Stage, play
from tests.service.scripted_worker import until


def test_l01_a_request_whose_worker_is_lost_is_asked_again_of_another() -> None:
    async def story(stage: Stage) -> None:
        first, second = await stage.connect(KEY), await stage.connect(KEY, index=1)
        task = stage.ask(b"same", b"rows")
        await first.hear_a_request()
        first.hang_up()
        request, payload = await second.hear_a_request()
        assert (payload, request.sizes, request.isolated) == (b"samerows", [4, 4], False)
        second.answer(request, b"[1]")
        assert (await task).payload == b"[1]"
        assert len(stage.pool.connections) == 1
        assert stage.sample("graftwork_retries_total") == 1

    play(story)


def test_a_request_that_saw_three_losses_is_unavailable() -> None:
    async def story(stage: Stage) -> None:
        workers = [await stage.connect(KEY, index=index) for index in range(4)]
        task = stage.ask()
        for worker in workers[:3]:
            await worker.hear_a_request()
            worker.hang_up()
        with pytest.raises(WorkerLost):
            await task
        assert stage.sample("graftwork_retries_total") == 2

    play(story)


def test_l02_without_another_worker_requests_are_unavailable_within_a_second() -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.connect(KEY)
        tasks = [stage.ask(b"%d" % number) for number in range(5)]
        requests = [(await worker.hear_a_request())[0] for _ in tasks]
        started = time.monotonic()
        worker.die_with([(requests[0], 0), (requests[1], 0)])
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(outcome, WorkerLost)
            assert outcome.retry_after_seconds >= 1
        assert time.monotonic() - started < 1.0
        with pytest.raises(NotReady):
            await stage.ask()  # who comes later does not wait at all

    play(story)


def test_l02_a_worker_that_comes_in_time_is_asked_by_all_who_wait() -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.connect(KEY)
        tasks = [stage.ask(b"%d" % number) for number in range(5)]
        for _ in tasks:
            await worker.hear_a_request()
        worker.hang_up()
        await until(lambda: not stage.pool.connections)
        newcomer = await stage.connect(KEY)
        for _ in tasks:
            request, payload = await newcomer.hear_a_request()
            newcomer.answer(request, b"[%s]" % payload)
        assert [(await task).payload for task in tasks] == [b"[%d]" % number for number in range(5)]

    play(story)


def test_who_waits_for_a_worker_can_give_up() -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.connect(KEY)
        task = stage.ask()
        await worker.hear_a_request()
        worker.hang_up()
        await until(lambda: not stage.pool.connections)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    play(story)


def test_requests_that_meet_a_broken_pipe_are_unavailable_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "REPLACEMENT_SECONDS", 0.0)

    async def story(stage: Stage) -> None:
        worker = await stage.connect(KEY)
        worker.hang_up()
        tasks = []
        while stage.pool.connections:  # until the loss is noticed everything is written into a broken pipe
            tasks.append(stage.ask(bytes(20_000)))
            await asyncio.sleep(0)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} <= {WorkerLost, NotReady}
        stage.metrics.exposition()

    play(story)


def test_a_worker_that_dies_before_it_has_settled_is_forgotten() -> None:
    async def story(stage: Stage) -> None:
        stage.may_settle.clear()
        worker = await stage.connect()
        connection = stage.pool.connections[0]
        stage._wanted = [KEY]
        worker.hang_up()
        await until(lambda: not stage.pool.connections)
        stage.may_settle.set()
        await until(lambda: connection.settled)
        assert not connection.loaded
        assert not stage.pool.connections

    play(story)


def test_who_hangs_up_without_a_hello_was_never_there() -> None:
    async def story(stage: Stage) -> None:
        caller = await stage.call()
        caller.hang_up()
        worker = await stage.connect(KEY)
        task = stage.ask()
        request, _ = await worker.hear_a_request()
        worker.answer(request, b"[]")
        await task
        assert len(stage.pool.connections) == 1

    play(story)
