"""Loads and unloads of one worker."""

from __future__ import annotations

import asyncio

import pytest

from models.errors import WorkerLost
from service.messages import Load, Loaded, LoadFailed, Predict, Report, Unload
from tests.service.api.worker_line import Line, play
from tests.service.echo_engine import SERVING
from tests.service.scripted_worker import until


def test_a_load_ends_with_how_it_is_served_or_why_not() -> None:
    async def story(line: Line) -> None:
        loads = [asyncio.create_task(line.connection.load("m", number)) for number in (1, 2)]
        assert [(await line.worker.hear())[0] for _ in loads] == [Load(name="m", number=1), Load(name="m", number=2)]
        line.worker.say(LoadFailed(name="m", number=2, reason="damaged"))
        line.worker.say(Loaded(name="m", number=1, serving=SERVING))
        assert [await load for load in loads] == [SERVING, "damaged"]
        assert line.connection.loaded == {("m", 1)}
        assert line.messages == [
            Loaded(name="m", number=1, serving=SERVING)
        ]  # whoever waits for a worker may look again

    play(story)


def test_two_who_ask_for_the_same_load_share_it() -> None:
    async def story(line: Line) -> None:
        loads = [asyncio.create_task(line.connection.load("m", 1)) for _ in range(2)]
        await line.worker.hear()
        line.worker.say(Loaded(name="m", number=1, serving=SERVING))
        assert [await load for load in loads] == [SERVING, SERVING]
        task = line.ask(b"")
        assert isinstance((await line.worker.hear())[0], Predict)
        task.cancel()

    play(story)


def test_one_who_gives_up_on_a_load_leaves_it_to_the_other() -> None:
    async def story(line: Line) -> None:
        loads = [asyncio.create_task(line.connection.load("m", 1)) for _ in range(2)]
        await line.worker.hear()
        loads[0].cancel()
        line.worker.say(Loaded(name="m", number=1, serving=SERVING))
        assert await loads[1] == SERVING
        assert loads[0].cancelled()

    play(story)


def test_a_worker_lost_while_loading_is_said_to_be() -> None:
    async def story(line: Line) -> None:
        load = asyncio.create_task(line.connection.load("m", 1))
        await line.worker.hear()
        line.worker.hang_up()
        with pytest.raises(WorkerLost):
            await load
        with pytest.raises(WorkerLost):
            await line.connection.load("m", 2)  # asked of a worker that is gone already

    play(story)


def test_an_unload_during_a_load_wins() -> None:
    async def story(line: Line) -> None:
        load = asyncio.create_task(line.connection.load("m", 1))
        await line.worker.hear()
        line.connection.unload("m", 1)
        assert (await line.worker.hear())[0] == Unload(name="m", number=1)
        line.worker.say(Loaded(name="m", number=1, serving=SERVING))
        assert await load is None  # which is no fault of the version
        await until(lambda: line.messages)
        assert line.connection.loaded == set()

    play(story)


def test_the_answer_to_a_load_that_was_taken_back_is_not_that_to_the_next() -> None:
    async def story(line: Line) -> None:
        first = asyncio.create_task(line.connection.load("m", 1))
        assert (await line.worker.hear())[0] == Load(name="m", number=1)
        line.connection.unload("m", 1)
        second = asyncio.create_task(line.connection.load("m", 1))
        assert (await first) is None
        assert (await line.worker.hear())[0] == Unload(name="m", number=1)
        assert (await line.worker.hear())[0] == Load(name="m", number=1)
        line.worker.say(Loaded(name="m", number=1, serving=SERVING))  # the first one; it will be unloaded at once
        line.worker.say(Report())
        await until(lambda: line.messages)
        assert not second.done()
        assert not line.connection.loaded
        line.worker.say(LoadFailed(name="m", number=1, reason="why"))
        assert await second == "why"

    play(story)
