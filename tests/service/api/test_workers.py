from __future__ import annotations

import asyncio
import logging
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from models.errors import EmptyText, NotReady, WorkerCrashed, WorkerLost
from service.api import workers as workers_module
from service.api.admission import Admission
from service.api.metrics import Metrics
from service.api.worker_connection import Reply, WorkerConnection
from service.api.workers import WorkerPool
from service.messages import Batch, Cancel, Died, Failure, Load, Loaded, LoadFailed, Predict, Report
from tests.service.echo_engine import SERVING
from tests.service.scripted_worker import ScriptedWorker, perform, until

KEY = ("m", 1)
MAX_BACKLOG = 1 << 20


class Stage:
    """A pool, and workers that connect to it.

    Attributes:
        admission: what the pool tells of batches.
        may_settle: closed, workers that connect have not loaded everything yet.
    """

    def __init__(self, directory: Path, *, silence_seconds: float = 3.0, busy_seconds: float = 30.0) -> None:
        self.metrics = Metrics("0")
        self.admission = Admission(max_rows=64, max_bytes=1 << 20, workers=1, metrics=self.metrics)
        self.pool = WorkerPool(
            self.metrics,
            self.admission,
            self._on_connect,
            directory,
            silence_seconds=silence_seconds,
            busy_seconds=busy_seconds,
            max_backlog=MAX_BACKLOG,
        )
        self.may_settle = asyncio.Event()
        self.may_settle.set()
        self._directory = directory
        self._wanted: list[tuple[str, int]] = []
        self._workers: list[ScriptedWorker] = []

    async def _on_connect(self, connection: WorkerConnection) -> None:
        await self.may_settle.wait()
        with suppress(WorkerLost):
            for name, number in self._wanted:
                await connection.load(name, number)

    async def call(self, *, index: int = 0, pid: int | None = None) -> ScriptedWorker:
        """Somebody connects, and says nothing yet."""
        ours, theirs = socket.socketpair()
        await asyncio.get_running_loop().connect_accepted_socket(self.pool.connection, ours)
        streams = await asyncio.open_connection(sock=theirs)
        self._workers.append(ScriptedWorker(*streams, self._directory, index=index, pid=pid))
        return self._workers[-1]

    async def connect(self, *loaded: tuple[str, int], index: int = 0, pid: int | None = None) -> ScriptedWorker:
        """A worker that says hello, is asked for some versions and has them."""
        self._wanted = list(loaded)
        count = len(self.pool.connections)
        worker = await self.call(index=index, pid=pid)
        worker.say(worker.hello)
        for name, number in loaded:
            assert (await worker.hear())[0] == Load(name=name, number=number)
            worker.say(Loaded(name=name, number=number, serving=SERVING))
        await until(lambda: len(self.pool.connections) > count)
        await until(lambda: self.pool.connections[-1].settled or not self.may_settle.is_set())
        return worker

    async def end(self) -> None:
        for worker in self._workers:
            worker.hang_up()
        await until(lambda: not self.pool._tasks and not self.pool.connections)

    def ask(self, *items: bytes, name: str = "m", number: int = 1) -> asyncio.Task[Reply]:
        deadline = time.monotonic() + 60
        predicting = self.pool.predict(name, number, items or [b"?"], deadline=deadline, top_k=None, truncate=False)
        return asyncio.create_task(predicting, name="request")

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


def play(story: Callable[[Stage], Coroutine[Any, Any, None]], **patience: float) -> None:
    async def on_stage() -> None:
        with tempfile.TemporaryDirectory(prefix="gw-test-") as directory:
            stage = Stage(Path(directory), **patience)
            try:
                await story(stage)
            finally:  # uvloop waits for connections that are left open
                await stage.end()

    perform(on_stage)


# Who is asked


def test_a_request_travels_with_its_options_and_deadline() -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.connect(KEY)
        task = asyncio.create_task(
            stage.pool.predict("m", 1, [b"one", b"three"], deadline=12.5, top_k=3, truncate=True)
        )
        request, payload = await worker.hear_a_request()
        assert payload == b"onethree"
        assert request == Predict(
            id=request.id, name="m", number=1, sizes=[3, 5], deadline=12.5, top_k=3, truncate=True, isolated=False
        )
        worker.answer(request, b"[1,2]")
        assert (await task).predictions == b"[1,2]"

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
        assert (await task).predictions == b"[1]"

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


# Workers that are lost


def test_l01_a_request_whose_worker_is_lost_is_asked_again_of_another() -> None:
    async def story(stage: Stage) -> None:
        first, second = await stage.connect(KEY), await stage.connect(KEY, index=1)
        task = stage.ask(b"same", b"rows")
        await first.hear_a_request()
        first.hang_up()
        request, payload = await second.hear_a_request()
        assert (payload, request.sizes, request.isolated) == (b"samerows", [4, 4], False)
        second.answer(request, b"[1]")
        assert (await task).predictions == b"[1]"
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
        assert [(await task).predictions for task in tasks] == [b"[%d]" % number for number in range(5)]

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


# L03: rows that end the worker which computes them


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
            assert (await task).predictions == b"[%s]" % payload

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
        assert [(await task).predictions for task in tasks] == [b"[0]", b"[1]", b"[2]"]
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
            silent.tick()
        task = stage.ask(b"?")
        request, payload = await second.hear_a_request()
        second.answer(request, payload)
        await task
        heard.rows = 0

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
        with pytest.raises(WorkerCrashed, match=r"^instance 1: it ends the engine worker") as caught:
            await task
        assert caught.value.status == 422
        for items, told in [([b"poison"], "^it ends"), ([b"a", b"b", b"poison", b"c"], "^instance 2: it ends")]:
            with pytest.raises(WorkerCrashed, match=told):  # no worker hears of it again
                await stage.ask(*items)
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
        assert (await task).predictions == b"[1]"

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
            assert (await tasks[int(payload)]).predictions == payload
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


# L04: workers that hang


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


def test_l04_silence_is_counted_in_ticks_not_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was itself stopped for an hour must not blame its workers."""
    killed: list[WorkerConnection] = []
    monkeypatch.setattr(WorkerConnection, "kill", lambda connection, why: killed.append(connection))
    ticks: asyncio.Queue[None] = asyncio.Queue()

    async def tick(seconds: float) -> None:
        await ticks.get()

    async def story(stage: Stage) -> None:
        await stage.connect(KEY)
        hours = 0.0
        with monkeypatch.context() as patched:
            patched.setattr(workers_module.asyncio, "sleep", tick)
            patched.setattr(workers_module.time, "monotonic", lambda: hours)
            watching = asyncio.create_task(stage.pool.watch())
            for number in range(1, 5):
                hours += 3600
                ticks.put_nowait(None)
                while stage.pool.connections[0].silent_ticks < number:
                    await asyncio.wait([watching], timeout=0.001)
                assert len(killed) == (1 if number > 3 else 0)
            watching.cancel()

    play(story, silence_seconds=3.0)


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
