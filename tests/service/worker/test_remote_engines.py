"""A worker whose batches are computed elsewhere, by servers that come and go."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest

from models.batch import Batch
from models.deadline import deadline, until
from models.errors import DeadlineExceeded, EngineUnavailable, GraftworkError
from models.features import FeatureKind, Features
from service.messages import Load, Loaded, RemoteEngine
from tests.service.echo_engine import EchoEngine, EchoRegistry, echo_version
from tests.service.worker.conversation import Conversation

SERVER = RemoteEngine(url="triton:8001", up=True, requests=3, failures=2, retries=1)


class ScriptedFleet:
    """One server, which is up when the test says so."""

    most_in_flight = 4

    def __init__(self, *, up: bool = True) -> None:
        self.up = threading.Event()
        if up:
            self.up.set()

    def take_report(self) -> Sequence[RemoteEngine]:
        return [SERVER]

    def wait_until_up(self, seconds: float) -> bool:
        return self.up.wait(0.01)


class RemoteEcho(EchoEngine):
    """Asks a server that may not answer.

    Attributes:
        trouble: instead of an answer.
        deadlines: of each batch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trouble: GraftworkError | None = None
        self.deadlines: list[float | None] = []

    def features(self, batch: Batch, kind: FeatureKind) -> Features:
        self.deadlines.append(deadline())
        found = super().features(batch, kind)
        if self.trouble is not None:
            raise self.trouble
        return found


class RemoteConversation(Conversation):
    def __init__(self, *, up: bool = True) -> None:
        self.engine = RemoteEcho()
        self.registry = EchoRegistry(echo_version(self.engine, "plain"))
        self.registry.fleet = self.fleet = ScriptedFleet(up=up)
        super().__init__(self.registry)


@pytest.mark.parametrize("trouble", [EngineUnavailable("none is ready"), DeadlineExceeded("too late")])
def test_a_batch_that_nobody_computes_fails_whole_and_is_not_asked_for_in_parts(trouble: GraftworkError) -> None:
    conversation = RemoteConversation()
    try:
        conversation.engine.gate.clear()
        first = [conversation.ask("1") for _ in range(4)]  # each thread has one
        conversation.wait_for_rows(0)
        conversation.engine.trouble = trouble
        together = [conversation.ask("2", "3", "4"), conversation.ask("5")]
        conversation.engine.gate.set()
        outcomes = conversation.outcomes(6)
        assert outcomes == dict.fromkeys((*first, *together), trouble.code)
        rows = sum(len(batch) for batch in conversation.engine.batches)
        assert rows == 8  # each of them once
        conversation.engine.trouble = None
        conversation.ask("7")
        conversation.answer()
    finally:
        conversation.end()


def test_an_engine_learns_the_deadline_of_the_most_patient_row() -> None:
    conversation = RemoteConversation()
    try:
        started = time.monotonic()
        conversation.ask("1", "2", seconds=50)
        conversation.answer()
        (found,) = {round(each - started) for each in conversation.engine.deadlines if each is not None}
        assert found == 50
        assert None not in conversation.engine.deadlines
    finally:
        conversation.end()


def test_a_deadline_holds_in_its_block_only() -> None:
    assert deadline() is None
    with until(3.0):
        assert deadline() == 3.0
        with until(2.0):
            assert deadline() == 2.0
        assert deadline() == 3.0
    assert deadline() is None


def test_a_version_that_nobody_can_compute_yet_is_loaded_once_somebody_can() -> None:
    conversation = RemoteConversation(up=False)
    try:

        def refuse(name: str, number: int) -> None:
            if not conversation.fleet.up.is_set():
                waited.set()
                raise EngineUnavailable("none is ready")

        waited = threading.Event()
        conversation.registry.on_load = refuse
        conversation.send(Load(name="plain", number=1))
        assert waited.wait(30)
        conversation.fleet.up.set()
        message, _ = conversation.receive()
        assert isinstance(message, Loaded)
        assert len(conversation.registry.loads) == 2
    finally:
        conversation.end()


def test_a_worker_ends_though_it_waits_for_somebody_to_compute() -> None:
    conversation = RemoteConversation(up=False)
    asked = threading.Event()

    def refuse(name: str, number: int) -> None:
        asked.set()
        raise EngineUnavailable("none is ready")

    conversation.registry.on_load = refuse
    conversation.send(Load(name="plain", number=1))
    assert asked.wait(30)
    conversation.end()  # which waits for the thread


def test_a_worker_says_how_its_servers_are_from_the_start_on() -> None:
    conversation = RemoteConversation()
    try:
        assert conversation.report().fleet == [SERVER]
    finally:
        conversation.end()
