"""Requests to one worker, and what becomes of them when it is lost."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import pytest

from models.errors import EmptyText, GraftworkError
from service.api.worker_connection import ConnectionLost
from service.messages import Batch, Cancel, Died, Failure, Hello, Report, pack
from tests.service.api.worker_line import Line, play
from tests.service.scripted_worker import until


def test_an_answer_finds_its_request_whatever_the_order() -> None:
    async def story(line: Line) -> None:
        tasks = [line.ask(b"%d" % n) for n in range(50)]
        requests = [await line.worker.hear_a_request() for _ in tasks]
        assert line.connection.rows == 50
        for request, payload in reversed(requests):
            line.worker.answer(request, b"[%s]" % payload)
        for number, task in enumerate(tasks):
            assert (await task).payload == b"[%d]" % number

    play(story)


def test_the_instances_travel_as_one_payload_with_their_sizes() -> None:
    async def story(line: Line) -> None:
        task = line.ask(b"one", b"", b"three")
        request, payload = await line.worker.hear_a_request()
        assert (request.sizes, payload) == ([3, 0, 5], b"onethree")
        line.worker.answer(request, b"[]")
        await task

    play(story)


def test_a_failure_is_raised_by_its_code() -> None:
    async def story(line: Line) -> None:
        for code, kind in [("empty_text", EmptyText), ("internal", GraftworkError), ("never heard of", GraftworkError)]:
            task = line.ask(b"")
            request, _ = await line.worker.hear_a_request()
            line.worker.say(Failure(id=request.id, code=code, message="why"))
            with pytest.raises(kind, match="why") as caught:
                await task
            assert type(caught.value) is kind

    play(story)


def test_a_cancelled_request_is_taken_back() -> None:
    async def story(line: Line) -> None:
        task = line.ask(b"1", b"2")
        request, _ = await line.worker.hear_a_request()
        task.cancel()
        assert (await line.worker.hear())[0] == Cancel(id=request.id)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert line.connection.rows == 0
        line.worker.answer(request, b"[]")  # it was on its way already
        following = line.ask(b"")
        request, _ = await line.worker.hear_a_request()
        line.worker.answer(request, b"[2]")
        assert (await following).payload == b"[2]"

    play(story)


def test_an_answered_request_is_not_taken_back() -> None:
    async def story(line: Line) -> None:
        for _ in range(2):
            task = line.ask(b"")
            request, _ = await line.worker.hear_a_request()  # a cancel would be heard here
            line.worker.answer(request, b"[]")
            await task

    play(story)


# Its end


def test_l03_the_end_tells_which_rows_the_worker_had_in_its_hands() -> None:
    async def story(line: Line) -> None:
        tasks = [line.ask(b"1", b"2", b"3") for _ in range(3)]
        requests = [(await line.worker.hear_a_request())[0] for _ in tasks]
        line.worker.die_with([(requests[0], 0), (requests[2], 1), (requests[2], 2)])
        suspects = []
        for task in tasks:
            with pytest.raises(ConnectionLost) as caught:
                await task
            suspects.append(caught.value.suspects)
        assert suspects == [{0}, set(), {1, 2}]

    play(story)


def test_who_is_asked_after_its_end_was_never_asked() -> None:
    async def story(line: Line) -> None:
        line.worker.hang_up()
        await until(lambda: line.ends)
        with pytest.raises(ConnectionLost) as caught:
            await line.ask(b"")
        assert not caught.value.suspects

    play(story)


def test_a_worker_lost_while_it_does_not_read_fails_what_waits_to_be_sent() -> None:
    async def story(line: Line) -> None:
        tasks = [line.ask(bytes(1 << 20)) for _ in range(8)]  # more than a socket holds
        await until(lambda: line.connection.rows == len(tasks))
        line.worker.hang_up()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(outcome, ConnectionLost)

    play(story)


def test_requests_that_meet_a_broken_pipe_are_lost_not_failed() -> None:
    async def story(line: Line) -> None:
        line.worker.hang_up()
        tasks = []
        while not line.ends:  # until the loss is noticed everything is written into a broken pipe
            tasks.append(line.ask(bytes(20_000)))
            await asyncio.sleep(0)
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(outcome, ConnectionLost)

    play(story)


def test_a_request_cancelled_as_its_worker_is_lost_is_cancelled() -> None:
    async def story(line: Line) -> None:
        task = line.ask(b"")
        await line.worker.hear_a_request()
        task.cancel()
        line.worker.hang_up()
        with pytest.raises(asyncio.CancelledError):
            await task

    play(story)


def test_who_hangs_up_without_a_hello_had_nothing_in_hand() -> None:
    async def story(line: Line) -> None:
        line.worker.hang_up()
        await until(lambda: line.ends)
        assert line.connection.hello is None
        assert str(line.connection) == "a worker"

    play(story, hello=False)


# Its life


def test_l04_a_worker_is_silent_for_as_many_ticks_as_it_says_nothing() -> None:
    async def story(line: Line) -> None:
        for ticks in (1, 2, 3):
            line.connection.tick(30.0)
            assert line.connection.silent_ticks == ticks
        report = Report(batches=[Batch(backbone="b", rows=2, seconds=0.1)], dropped=1, waiting=5, busy_seconds=3.5)
        line.worker.say(report)
        await until(lambda: line.messages)
        assert line.messages == [report]
        assert line.connection.silent_ticks == 0
        assert line.connection.busy_seconds == 3.5

    play(story)


def test_l04_part_of_a_message_is_no_silence() -> None:
    async def story(line: Line) -> None:
        line.connection.tick(30.0)
        line.worker._writer.write(pack(Report())[:5])
        await until(lambda: line.connection.silent_ticks == 0)

    play(story)


def test_l04_kill_ends_the_process() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])

    async def story(line: Line) -> None:
        line.connection.kill("it is only a test")
        assert await asyncio.to_thread(process.wait, 30) == -signal.SIGKILL
        line.connection.kill("it is dead already")

    play(story, pid=process.pid)


def test_the_parent_process_speaks_on_a_connection_without_a_hello() -> None:
    async def story(line: Line) -> None:
        died = Died(worker=1, exit_code=-9, deaths=1, pause_seconds=0.1)
        line.worker.say(died)
        await until(lambda: line.messages)
        assert line.messages == [died]

    play(story, hello=False)


def test_it_prints_as_who_it_is() -> None:
    async def story(line: Line) -> None:
        assert isinstance(line.connection.hello, Hello)
        assert str(line.connection) == f"worker 0 (pid {line.worker.hello.pid}, cpu)"

    play(story)
