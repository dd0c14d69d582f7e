from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest
import uvloop

from models.errors import EmptyText, GraftworkError, NotReady, WorkerLost
from service.messages import (
    PREFIX,
    Answer,
    Cancel,
    Failure,
    Hello,
    Load,
    Loaded,
    LoadFailed,
    Message,
    Predict,
    Timings,
    Unload,
    pack,
    unpack,
)
from service.metrics import Metrics
from service.workers import Reply, WorkerConnection, WorkerPool

KEY = ("m", 1)


class ScriptedWorker:
    """The worker's end of a connection; it says what the test makes it say."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def say(self, message: Message, payload: bytes = b"") -> None:
        self._writer.write(pack(message, payload))

    async def hear(self) -> tuple[Message, bytes]:
        header_size, payload_size = PREFIX.unpack(await self._reader.readexactly(PREFIX.size))
        message = unpack(await self._reader.readexactly(header_size))
        return message, await self._reader.readexactly(payload_size)

    async def hear_a_request(self) -> tuple[Predict, bytes]:
        message, payload = await self.hear()
        assert isinstance(message, Predict), message
        return message, payload

    def answer(self, request: Predict, payload: bytes, **details: Any) -> None:
        self.say(Answer(id=request.id, timings=Timings(), **details), payload)

    def hang_up(self) -> None:
        self._writer.close()


class Stage:
    """A pool, and workers that connect to it."""

    def __init__(self) -> None:
        self.metrics = Metrics("0")
        self.pool = WorkerPool(self.metrics, self._on_connect)
        self.may_settle = asyncio.Event()
        self.may_settle.set()
        self._wanted: list[tuple[str, int]] = []
        self._workers: list[ScriptedWorker] = []

    async def _on_connect(self, connection: WorkerConnection) -> None:
        await self.may_settle.wait()
        with suppress(WorkerLost):
            for name, number in self._wanted:
                await connection.load(name, number)

    async def connect(self, *loaded: tuple[str, int], index: int = 0) -> ScriptedWorker:
        """A worker that says hello, is asked for some versions and has them."""
        self._wanted = list(loaded)
        ours, theirs = socket.socketpair()
        count = len(self.pool.connections)
        self.pool.accept(*await asyncio.open_connection(sock=ours))
        worker = ScriptedWorker(*await asyncio.open_connection(sock=theirs))
        self._workers.append(worker)
        worker.say(Hello(worker=index, pid=100 + index, device="cpu"))
        for name, number in loaded:
            assert (await worker.hear())[0] == Load(name=name, number=number)
            worker.say(Loaded(name=name, number=number))
        await until(lambda: len(self.pool.connections) > count)
        await until(lambda: self.pool.connections[-1].settled or not self.may_settle.is_set())
        return worker

    async def end(self) -> None:
        for worker in self._workers:
            worker.hang_up()
        await until(lambda: not self.pool._tasks)

    def ask(self, *items: bytes, name: str = "m", number: int = 1) -> asyncio.Task[Reply]:
        return asyncio.create_task(
            self.pool.predict(name, number, items or [b"?"], top_k=None, truncate=False), name="request"
        )

    def gauge(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def play(story: Callable[[Stage], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        async with asyncio.timeout(30):
            stage = Stage()
            await story(stage)
            await stage.end()
        gc.collect()  # an exception that nobody has looked at complains when it is collected
        await asyncio.sleep(0)
        assert not complaints

    uvloop.run(run())  # the loop of the server: it closes and complains in its own way


def test_an_answer_finds_its_request_whatever_the_order() -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.connect(KEY)
        tasks = [stage.ask(b"%d" % n) for n in range(50)]
        requests = [await worker.hear_a_request() for _ in tasks]
        for request, payload in reversed(requests):
            worker.answer(request, b"[%s]" % payload)
        for number, task in enumerate(tasks):
            assert (await task).predictions == b"[%d]" % number

    play(story)


def test_the_instances_travel_as_one_payload_with_their_sizes() -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.connect(KEY)
        task = stage.ask(b"one", b"", b"three")
        request, payload = await worker.hear_a_request()
        assert (request.sizes, payload) == ([3, 0, 5], b"onethree")
        worker.answer(request, b"[]")
        await task

    play(story)


def test_a_failure_is_raised_by_its_code() -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.connect(KEY)
        for code, kind in [("empty_text", EmptyText), ("internal", GraftworkError), ("never heard of", GraftworkError)]:
            task = stage.ask()
            request, _ = await worker.hear_a_request()
            worker.say(Failure(id=request.id, code=code, message="why"))
            with pytest.raises(kind, match="why") as caught:
                await task
            assert type(caught.value) is kind

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


def test_a_request_whose_worker_is_lost_is_asked_again_of_another() -> None:
    async def story(stage: Stage) -> None:
        first, second = await stage.connect(KEY), await stage.connect(KEY, index=1)
        task = stage.ask(b"same")
        await first.hear_a_request()
        first.hang_up()
        request, payload = await second.hear_a_request()
        assert payload == b"same"
        second.answer(request, b"[1]")
        assert (await task).predictions == b"[1]"
        assert len(stage.pool.connections) == 1

    play(story)


def test_a_request_is_asked_twice_at_most() -> None:
    async def story(stage: Stage) -> None:
        workers = [await stage.connect(KEY, index=index) for index in range(3)]
        task = stage.ask()
        for worker in workers[:2]:
            await worker.hear_a_request()
            worker.hang_up()
        with pytest.raises(WorkerLost):
            await task

    play(story)


def test_without_another_worker_the_request_is_unavailable_at_once() -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.connect(KEY)
        tasks = [stage.ask() for _ in range(5)]
        for _ in tasks:
            await worker.hear_a_request()
        worker.hang_up()
        for task in tasks:
            with pytest.raises(WorkerLost):
                await task

    play(story)


def test_a_cancelled_request_is_taken_back() -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.connect(KEY)
        task = stage.ask()
        request, _ = await worker.hear_a_request()
        task.cancel()
        assert (await worker.hear())[0] == Cancel(id=request.id)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stage.pool.connections[0].rows == 0
        worker.answer(request, b"[]")  # it was on its way already
        following = stage.ask()
        request, _ = await worker.hear_a_request()
        worker.answer(request, b"[2]")
        assert (await following).predictions == b"[2]"

    play(story)


def test_a_request_past_its_deadline_is_taken_back() -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.connect(KEY)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await stage.pool.predict("m", 1, [b"?"], top_k=None, truncate=False)
        request, _ = await worker.hear_a_request()
        assert (await worker.hear())[0] == Cancel(id=request.id)

    play(story)


def test_an_answered_request_is_not_taken_back() -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.connect(KEY)
        for _ in range(2):
            task = stage.ask()
            request, _ = await worker.hear_a_request()  # a cancel would be heard here
            worker.answer(request, b"[]")
            await task

    play(story)


def test_a_worker_lost_while_it_does_not_read_fails_what_waits_to_be_sent() -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.connect(KEY)
        tasks = [stage.ask(bytes(1 << 20)) for _ in range(8)]  # more than a socket holds
        await until(lambda: stage.pool.connections[0].rows == len(tasks))
        worker.hang_up()
        for task in tasks:
            with pytest.raises(WorkerLost):
                await task

    play(story)


def test_requests_that_meet_a_broken_pipe_are_unavailable_not_failed() -> None:
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


def test_a_load_ends_with_nothing_or_the_reason() -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.connect()
        connection = stage.pool.connections[0]
        loads = [asyncio.create_task(connection.load("m", number)) for number in (1, 2)]
        await worker.hear()
        await worker.hear()
        worker.say(LoadFailed(name="m", number=2, reason="damaged"))
        worker.say(Loaded(name="m", number=1))
        assert [await load for load in loads] == [None, "damaged"]
        assert connection.loaded == {("m", 1)}

    play(story)


def test_two_who_ask_for_the_same_load_share_it() -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.connect()
        connection = stage.pool.connections[0]
        loads = [asyncio.create_task(connection.load("m", 1)) for _ in range(2)]
        await worker.hear()
        worker.say(Loaded(name="m", number=1))
        assert [await load for load in loads] == [None, None]
        task = stage.ask()
        assert isinstance((await worker.hear())[0], Predict)
        task.cancel()

    play(story)


def test_a_worker_lost_while_loading_is_said_to_be() -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.connect()
        connection = stage.pool.connections[0]
        load = asyncio.create_task(connection.load("m", 1))
        await worker.hear()
        worker.hang_up()
        with pytest.raises(WorkerLost):
            await load
        with pytest.raises(WorkerLost):
            await connection.load("m", 2)  # asked of a worker that is gone already

    play(story)


def test_an_unload_during_a_load_wins() -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.connect()
        connection = stage.pool.connections[0]
        load = asyncio.create_task(connection.load("m", 1))
        await worker.hear()
        connection.unload("m", 1)
        assert (await worker.hear())[0] == Unload(name="m", number=1)
        worker.say(Loaded(name="m", number=1))
        assert await load is not None
        with pytest.raises(NotReady):
            await stage.ask()
        assert connection.loaded == set()

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
        assert (await task).predictions == b"[1]"

    play(story)


def test_a_worker_that_dies_before_it_has_settled_is_forgotten() -> None:
    async def story(stage: Stage) -> None:
        stage.may_settle.clear()
        worker = await stage.connect()
        stage._wanted = [KEY]
        worker.hang_up()
        await until(lambda: stage.pool.connections[0]._lost)
        stage.may_settle.set()
        await until(lambda: not stage.pool.connections)

    play(story)


def test_who_hangs_up_without_a_hello_was_never_there() -> None:
    async def story(stage: Stage) -> None:
        ours, theirs = socket.socketpair()
        stage.pool.accept(*await asyncio.open_connection(sock=ours))
        theirs.close()
        await until(lambda: not stage.pool._tasks)
        assert not stage.pool.connections

    play(story)


def test_metrics_follow_the_workers() -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.connect(KEY, index=7)
        assert stage.gauge("graftwork_workers") == 1
        task = stage.ask()
        request, _ = await worker.hear_a_request()
        worker.answer(request, b"[]", batches=[("abc", 3), ("abc", 5)], waiting=11)
        await task
        assert stage.gauge("graftwork_batch_size_rows_sum", backbone="abc") == 8
        assert stage.gauge("graftwork_queue_depth_rows", worker="7") == 11
        worker.hang_up()
        await until(lambda: stage.gauge("graftwork_workers") == 0)
        assert stage.gauge("graftwork_queue_depth_rows", worker="7") is None

    play(story)
