"""Row L03: rows that end the worker which computes them."""

from __future__ import annotations

import asyncio
import logging

import pytest

from models.errors import EmptyText, WorkerCrashed, WorkerLost
from service.api import workers as workers_module
from service.api.worker_connection import Reply
from service.messages import Cancel, Failure, Predict
from tests.service.api.pool_stage import KEY, Stage, play
from tests.service.scripted_worker import ScriptedWorker, until


def test_l03_suspects_are_tried_alone_one_by_one_and_their_mates_survive() -> None:
    async def story(stage: Stage) -> None:
        first, second = await stage.connect(KEY), await stage.connect(KEY, index=1)
        tasks = {b"%d" % number: stage.ask(b"%d" % number) for number in range(6)}
        asked = {}
        for worker in (first, second, first, second, first, second):  # each in turn, as they owe the same
            request, payload = await worker.hear_a_request()
            asked[payload] = (worker, request)
        mine = {payload: request for payload, (worker, request) in asked.items() if worker is first}
        assert set(mine) == {b"0", b"2", b"4"}
        first.die_with([(mine[b"0"], 0), (mine[b"2"], 0)])  # 4 merely waited
        tried, open_trials = [], 0
        for _ in range(3):
            request, payload = await second.hear_a_request()
            assert request.isolated is (payload != b"4")
            tried.append(payload)
            open_trials += request.isolated
            assert open_trials <= 1  # the next suspect is tried once this one is cleared
            second.answer(request, b"[%s]" % payload)
            open_trials -= request.isolated
        assert sorted(tried) == [b"0", b"2", b"4"]
        for payload, (worker, request) in asked.items():
            if worker is second:
                second.answer(request, b"[%s]" % payload)
        for payload, task in tasks.items():
            assert (await task).payload == b"[%s]" % payload

    play(story)


def test_l03_a_suspect_is_not_tried_while_another_one_is() -> None:
    async def story(stage: Stage) -> None:
        first, second = await stage.connect(KEY), await stage.connect(KEY, index=1)
        stage.pool.connections[1].rows = 100  # so that all of them go to the first one
        tasks = [stage.ask(b"%d" % number) for number in range(3)]
        requests = [(await first.hear_a_request())[0] for _ in tasks]
        first.die_with([(request, 0) for request in requests])
        for _ in tasks:
            request, payload = await second.hear_a_request()
            innocent = stage.ask(b"innocent")  # it is heard next, though two suspects have waited for longer
            plain, told = await second.hear_a_request()
            assert (request.isolated, plain.isolated, told) == (True, False, b"innocent")
            second.answer(plain, b"[]")
            await innocent
            second.answer(request, b"[%s]" % payload)
        assert [(await task).payload for task in tasks] == [b"[0]", b"[1]", b"[2]"]
        stage.pool.connections[0].rows = 0

    play(story)


def test_l03_of_equal_rows_only_one_is_tried() -> None:
    async def story(stage: Stage) -> None:
        workers = [await stage.connect(KEY, index=index) for index in range(3)]
        for connection in stage.pool.connections[1:]:
            connection.rows = 100
        tasks = [stage.ask(b"poison") for _ in range(5)]
        requests = [(await workers[0].hear_a_request())[0] for _ in tasks]
        workers[0].die_with([(request, 0) for request in requests])
        request, _ = await workers[1].hear_a_request()
        workers[1].die_with([(request, 0)])
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(outcome, WorkerCrashed)
        stage.pool.connections[0].rows = 0

    play(story)


def test_l03_rows_that_equal_a_cleared_one_are_not_tried_one_by_one() -> None:
    async def story(stage: Stage) -> None:
        first, second = await stage.connect(KEY), await stage.connect(KEY, index=1)
        stage.pool.connections[1].rows = 100
        tasks = [stage.ask(b"hey") for _ in range(5)]
        requests = [(await first.hear_a_request())[0] for _ in tasks]
        first.die_with([(request, 0) for request in requests])
        request, payload = await second.hear_a_request()
        assert request.isolated
        second.answer(request, payload)
        others = [(await second.hear_a_request())[0] for _ in range(4)]  # all at once, before any is answered
        assert not any(other.isolated for other in others)
        for other in others:
            second.answer(other, payload)
        await asyncio.gather(*tasks)
        stage.pool.connections[0].rows = 0

    play(story)


def test_l03_a_row_that_outlives_its_client_is_tried_alone_then_refused() -> None:
    async def story(stage: Stage) -> None:
        workers = [await stage.connect(KEY, index=index) for index in range(3)]
        for worker, is_suspected in [(workers[0], False), (workers[1], True)]:
            task = stage.ask(b"endless")
            request, _ = await worker.hear_a_request()
            assert request.isolated is is_suspected
            worker.take_in_hand([(request, 0)])
            task.cancel()
            assert (await worker.hear())[0] == Cancel(id=request.id)
            count = len(stage.pool.connections)
            worker.hang_up()  # later, when nobody waits for it any more
            await until(lambda count=count: len(stage.pool.connections) < count)
        with pytest.raises(WorkerCrashed):
            await stage.ask(b"endless")

    play(story)


def test_l03_a_row_that_ends_its_second_worker_is_refused_and_remembered(caplog: pytest.LogCaptureFixture) -> None:
    async def story(stage: Stage) -> None:
        workers = [await stage.connect(KEY, index=index) for index in range(3)]
        task = stage.ask(b"fine", b"poison")
        request, _ = await workers[0].hear_a_request()
        workers[0].die_with([(request, 0), (request, 1)])
        request, _ = await workers[1].hear_a_request()
        assert request.isolated
        workers[1].die_with([(request, 1)])
        with pytest.raises(WorkerCrashed, match=r"^it ends the engine worker") as caught:
            await task
        assert (caught.value.status, caught.value.row) == (422, 1)
        for items, row in [([b"poison"], 0), ([b"a", b"b", b"poison", b"c"], 2)]:
            with pytest.raises(WorkerCrashed, match=r"^it ends") as caught:  # no worker hears of it again
                await stage.ask(*items)
            assert caught.value.row == row
        task = stage.ask(b"fine")
        request, payload = await workers[2].hear_a_request()
        assert payload == b"fine"
        workers[2].answer(request, b"[]")
        await task
        assert "poison" not in caplog.text  # what clients send is not logged

    caplog.set_level(logging.DEBUG)
    play(story)


def test_l03_a_suspect_whose_second_worker_is_lost_without_it_in_hand_is_tried_again() -> None:
    async def story(stage: Stage) -> None:
        workers = [await stage.connect(KEY, index=index) for index in range(3)]
        task = stage.ask(b"fine")
        request, _ = await workers[0].hear_a_request()
        workers[0].die_with([(request, 0)])
        await workers[1].hear_a_request()
        workers[1].hang_up()
        request, _ = await workers[2].hear_a_request()
        assert request.isolated
        workers[2].answer(request, b"[1]")
        assert (await task).payload == b"[1]"

    play(story)


def test_l03_who_was_lost_first_by_chance_may_still_be_convicted() -> None:
    async def story(stage: Stage) -> None:
        workers = [await stage.connect(KEY, index=index) for index in range(3)]
        task = stage.ask(b"poison")
        await workers[0].hear_a_request()
        workers[0].hang_up()
        request, _ = await workers[1].hear_a_request()
        assert not request.isolated
        workers[1].die_with([(request, 0)])
        request, _ = await workers[2].hear_a_request()
        assert request.isolated
        workers[2].die_with([(request, 0)])
        with pytest.raises(WorkerCrashed):
            await task

    play(story)


def test_l03_a_suspect_that_is_merely_bad_is_told_so() -> None:
    async def story(stage: Stage) -> None:
        first, second = await stage.connect(KEY), await stage.connect(KEY, index=1)
        task = stage.ask(b"blank")
        request, _ = await first.hear_a_request()
        first.die_with([(request, 0)])
        request, _ = await second.hear_a_request()
        second.say(Failure(id=request.id, code="empty_text", message="why"))
        with pytest.raises(EmptyText):
            await task

    play(story)


def test_l03_a_suspect_that_gives_up_makes_room_for_the_next() -> None:
    async def story(stage: Stage) -> None:
        first, second = await stage.connect(KEY), await stage.connect(KEY, index=1)
        stage.pool.connections[1].rows = 100
        tasks = [stage.ask(b"%d" % number) for number in range(3)]
        requests = [(await first.hear_a_request())[0] for _ in tasks]
        first.die_with([(request, 0) for request in requests])
        request, payload = await second.hear_a_request()
        tasks[int(payload)].cancel()
        assert (await second.hear())[0] == Cancel(id=request.id)
        for _ in range(2):
            request, payload = await second.hear_a_request()
            second.answer(request, payload)
            assert (await tasks[int(payload)]).payload == payload
        stage.pool.connections[0].rows = 0

    play(story)


def test_l03_a_suspect_that_no_worker_was_left_to_try_is_tried_when_it_comes_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers_module, "REPLACEMENT_SECONDS", 0.0)

    async def story(stage: Stage) -> None:
        async def ask(worker: ScriptedWorker, *items: bytes) -> tuple[asyncio.Task[Reply], Predict]:
            task = stage.ask(*items)
            request, _ = await worker.hear_a_request()
            return task, request

        worker = await stage.connect(KEY)
        asked = [await ask(worker, item) for item in (b"innocent", b"poison", b"bystander")]
        worker.die_with([(request, 0) for _, request in asked[:2]])
        for task, _ in asked:
            with pytest.raises(WorkerLost):
                await task
        worker = await stage.connect(KEY)
        for items, is_suspected in [
            ([b"bystander"], False),
            ([b"new", b"innocent"], True),
            ([b"innocent"], False),  # it was tried, and is cleared
        ]:
            task, request = await ask(worker, *items)
            assert request.isolated is is_suspected
            worker.answer(request, b"[]")
            await task
        task, request = await ask(worker, b"poison")
        assert request.isolated
        worker.die_with([(request, 0)])
        with pytest.raises(WorkerCrashed):  # the second worker that it ended is the last one
            await task

    play(story)


def test_nobody_is_convicted_by_another_version() -> None:
    async def story(stage: Stage) -> None:
        workers = [await stage.connect(KEY, ("m", 2), index=index) for index in range(3)]
        task = stage.ask(b"poison")
        for worker in workers[:2]:
            request, _ = await worker.hear_a_request()
            worker.die_with([(request, 0)])
        with pytest.raises(WorkerCrashed):
            await task
        other = stage.ask(b"poison", number=2)
        request, _ = await workers[2].hear_a_request()
        workers[2].answer(request, b"[]")
        await other

    play(story)
