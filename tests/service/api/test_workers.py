from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from models.errors import NotReady
from service.api import workers as workers_module
from service.messages import Batch, Cancel, Died, Load, Loaded, LoadFailed, Predict, Report, Wish
from tests.service.api.pool_stage import KEY, MAX_BACKLOG, Stage, play
from tests.service.echo_engine import SERVING
from tests.service.scripted_worker import until

# Who is asked


def test_a_request_travels_with_its_options_and_deadline() -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.connect(KEY)
        wish = Wish(form="FP32", outputs=["logits"], top_k=3, truncate=True)
        task = asyncio.create_task(stage.pool.predict("m", 1, [b"one", b"three"], deadline=12.5, wish=wish))
        request, payload = await worker.hear_a_request()
        assert payload == b"onethree"
        assert request == Predict(
            id=request.id, name="m", number=1, sizes=[3, 5], deadline=12.5, wish=wish, isolated=False
        )
        worker.answer(request, b"[1,2]")
        assert (await task).payload == b"[1,2]"

    play(story)


def test_the_worker_that_owes_least_is_asked() -> None:
    async def story(stage: Stage) -> None:
        first, second = await stage.connect(KEY), await stage.connect(KEY, index=1)
        many = stage.ask(b"1", b"2", b"3")
        request, _ = await first.hear_a_request()
        others = [stage.ask(), stage.ask()]
        heard = [await second.hear_a_request() for _ in others]
        first.answer(request, b"[1]")
        await many
        last = stage.ask(b"5")
        request, payload = await first.hear_a_request()
        assert payload == b"5"
        first.answer(request, b"[]")
        for each, _ in heard:
            second.answer(each, b"[]")
        await asyncio.gather(last, *others)
        assert [connection.rows for connection in stage.pool.connections] == [0, 0]

    play(story)


def test_only_workers_that_hold_the_version_are_asked() -> None:
    async def story(stage: Stage) -> None:
        await stage.connect(("other", 1))
        with pytest.raises(NotReady):
            await stage.ask()
        holder = await stage.connect(KEY, index=1)
        task = stage.ask()
        request, _ = await holder.hear_a_request()
        holder.answer(request, b"[]")
        await task

    play(story)


def test_an_unloaded_version_gets_no_more_requests_but_owed_answers_arrive() -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.connect(KEY)
        task = stage.ask()
        request, _ = await worker.hear_a_request()
        stage.pool.connections[0].unload(*KEY)
        with pytest.raises(NotReady):
            await stage.ask()
        worker.answer(request, b"[1]")
        assert (await task).payload == b"[1]"

    play(story)


def test_a_version_that_is_loaded_while_others_wait_is_asked() -> None:
    """Not before it is loaded, and not before the others are, either."""

    async def story(stage: Stage) -> None:
        worker = await stage.connect(index=0)
        with pytest.raises(NotReady):
            await stage.ask()
        loads = [asyncio.create_task(stage.pool.connections[0].load("m", number)) for number in (1, 2)]
        assert [(await worker.hear())[0] for _ in loads] == [Load(name="m", number=number) for number in (1, 2)]
        worker.say(Loaded(name="m", number=1, serving=SERVING))
        await loads[0]
        task = stage.ask()
        request, _ = await worker.hear_a_request()
        worker.answer(request, b"[]")
        await task
        worker.say(LoadFailed(name="m", number=2, reason="damaged"))
        assert await loads[1] == "damaged"

    play(story)


def test_a_worker_that_does_not_take_what_it_is_sent_is_not_asked_for_more() -> None:
    async def story(stage: Stage) -> None:
        await stage.connect(KEY)
        (connection,) = stage.pool.connections
        for _ in range(10):
            task = stage.ask(bytes(MAX_BACKLOG))
            await until(lambda task=task: connection.rows or task.done())
            await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError, NotReady):
                await task
        assert MAX_BACKLOG < connection.backlog() < 3 * MAX_BACKLOG
        with pytest.raises(NotReady):
            await stage.ask(b"?")

    play(story)


def test_a_worker_that_is_silent_is_asked_last() -> None:
    async def story(stage: Stage) -> None:
        _, second = await stage.connect(KEY), await stage.connect(KEY, index=1)
        silent, heard = stage.pool.connections
        heard.rows = 100
        for _ in range(workers_module.QUIET_TICKS + 1):
            silent.tick(30.0)
        task = stage.ask(b"?")
        request, payload = await second.hear_a_request()
        second.answer(request, payload)
        await task
        heard.rows = 0

    play(story)


def test_a_request_past_its_deadline_is_taken_back() -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.connect(KEY)
        task = stage.ask()
        request, _ = await worker.hear_a_request()
        task.cancel()  # what Patience does
        assert (await worker.hear())[0] == Cancel(id=request.id)
        with pytest.raises(asyncio.CancelledError):
            await task

    play(story)


# L19: metrics over the death of workers


def test_l19_metrics_follow_the_workers() -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.connect(KEY, index=7)
        assert stage.sample("graftwork_workers") == 1
        batches = [Batch(backbone="abc", rows=rows, seconds=0.5) for rows in (3, 5)]
        worker.say(Report(batches=batches, dropped=4, waiting=11))
        await until(lambda: stage.sample("graftwork_queue_depth_rows", worker="7") == 11)
        assert stage.sample("graftwork_batch_size_rows_sum", backbone="abc") == 8
        assert stage.sample("graftwork_dropped_rows_total") == 4
        stage.admission.rows = 100
        assert stage.admission.retry_after_seconds() > 1  # it has heard how long rows take
        worker.hang_up()
        await until(lambda: stage.sample("graftwork_workers") == 0)
        assert stage.sample("graftwork_queue_depth_rows", worker="7") is None
        assert stage.sample("graftwork_batch_size_rows_sum", backbone="abc") == 8
        assert stage.sample("graftwork_dropped_rows_total") == 4
        worker = await stage.connect(KEY, index=7)
        assert stage.sample("graftwork_queue_depth_rows", worker="7") is None
        worker.say(Report(batches=batches[:1], dropped=1, waiting=2))
        await until(lambda: stage.sample("graftwork_queue_depth_rows", worker="7") == 2)
        assert stage.sample("graftwork_batch_size_rows_sum", backbone="abc") == 11
        assert stage.sample("graftwork_dropped_rows_total") == 5

    play(story)


def test_deaths_are_told_by_the_parent_process_and_explained() -> None:
    async def story(stage: Stage) -> None:
        assert stage.pool.why_nobody_is_connected() == ""
        for exit_code, told in [(-9, "signal 9"), (1, "exit code 1")]:
            parent = await stage.call()
            parent.say(Died(worker=2, exit_code=exit_code, deaths=3, pause_seconds=0.4))
            parent.hang_up()
            await until(lambda told=told: told in stage.pool.why_nobody_is_connected())
        assert "worker 2" in stage.pool.why_nobody_is_connected()
        assert "3 times in a row" in stage.pool.why_nobody_is_connected()
        assert stage.sample("graftwork_worker_deaths_total", worker="2") == 2
        assert not stage.pool.connections

    play(story)
