from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.backbone_store import StoredBackbone
from models.batch import Batch as EngineBatch
from models.batch import TextBatch
from models.batch_cost import UNMEASURED
from models.engine import Engine
from models.features import FeatureKind, Features
from models.repository import ModelRepository
from service.flight_record import FlightRecord
from service.messages import (
    PREFIX,
    Answer,
    Batch,
    Cancel,
    Failure,
    Hello,
    Load,
    Loaded,
    LoadFailed,
    Message,
    Predict,
    Report,
    Unload,
    pack,
    unpack,
)
from service.worker import worker as worker_module
from service.worker.pending import PendingRow
from service.worker.registry import Registry
from service.worker.servable import Prepared, Servables
from service.worker.worker import Worker
from tests.faults.echo import BAD, BUG, FAT, OBESE, Echo, Echoes
from tests.processes import assert_true, wait_for
from tests.service.echo_engine import (
    NOT_FINITE,
    POISON,
    SCALE,
    SERVING,
    EchoEngine,
    EchoRegistry,
    decoded,
    echo_version,
)
from tests.tiny_models import TorchEngines, torch_engine

HELLO = Hello(worker=3, pid=1, device="cpu")
PLAIN, OTHER = 1.0, -2.5  # the weights of two heads on one backbone


class Conversation:
    """A worker in a thread, and the API process's end of its connection.

    Attributes:
        record: the path of its flight record.
        reports: those that came while something else was waited for.
    """

    def __init__(self, servables: Servables, *, max_batch_rows: int = 8) -> None:
        self.socket, self._theirs = socket.socketpair()
        self.socket.settimeout(30)
        self._directory = tempfile.mkdtemp(prefix="gw-test-")
        self.record = Path(self._directory, "flight-1")
        record = FlightRecord(self.record, decode_threads=4, compute_threads=4, max_batch_rows=max_batch_rows)
        self.worker = Worker(self._theirs, servables, record, threads=4, max_batch_rows=max_batch_rows)
        self.thread = threading.Thread(target=self.worker.run, args=(HELLO,))
        self.thread.start()
        self._stream = self.socket.makefile("rb")
        self._ids = itertools.count()
        self.reports: list[Report] = []
        assert self.receive() == (HELLO, None)

    def send(self, message: Message, payload: bytes = b"") -> None:
        self.socket.sendall(pack(message, len(payload)) + payload)

    def ask(self, *rows: str | bytes, name: str = "plain", seconds: float = 60.0, **options: Any) -> int:
        """Sends a request and returns its id.

        Args:
            seconds: until its deadline.
        """
        items = [row.encode() if isinstance(row, str) else row for row in rows]
        number, deadline = next(self._ids), time.monotonic() + seconds
        sizes = [len(item) for item in items]
        self.send(Predict(id=number, name=name, number=1, sizes=sizes, deadline=deadline, **options), b"".join(items))
        return number

    def receive(self) -> tuple[Message, Any]:
        """The next message that is no report."""
        while True:
            message, payload = self._next()
            if not isinstance(message, Report):
                return message, json.loads(payload) if payload else None
            self.reports.append(message)

    def _next(self) -> tuple[Message, bytes]:
        header_size, payload_size = PREFIX.unpack(self._stream.read(PREFIX.size))
        return unpack(self._stream.read(header_size)), self._stream.read(payload_size)

    def report(self) -> Report:
        """The next report; whatever else comes is an error."""
        message, _ = self._next()
        assert isinstance(message, Report), message
        return message

    def answer(self) -> tuple[Answer, list[dict[str, Any]]]:
        message, payload = self.receive()
        assert isinstance(message, Answer), message
        return message, payload

    def failure(self) -> Failure:
        message, _ = self.receive()
        assert isinstance(message, Failure), message
        return message

    def outcomes(self, count: int) -> dict[int, Any]:
        """So many answers and failures, by the id of their request: its predictions, or the failure's code."""
        found: dict[int, Any] = {}
        for _ in range(count):
            message, payload = self.receive()
            assert isinstance(message, (Answer, Failure)), message
            found[message.id] = payload if isinstance(message, Answer) else message.code
        assert len(found) == count
        return found

    def all_reports(self) -> list[Report]:
        """Every report until now: a refused load comes back after them."""
        self.send(Load(name="unheard-of", number=1))
        assert isinstance(self.receive()[0], LoadFailed)
        return self.reports

    def batches(self) -> list[Batch]:
        return [batch for report in self.all_reports() for batch in report.batches]

    def dropped(self) -> int:
        return sum(report.dropped for report in self.all_reports())

    def wait_for_rows(self, rows: int) -> None:
        """Until so many rows are decoded and wait for the device."""
        wait_for(lambda: self.worker._scheduler.waiting >= rows, 30, pause=0.001)

    def end(self) -> None:
        self._stream.close()
        self.socket.close()
        self.thread.join(30)
        assert not self.thread.is_alive()
        self._theirs.close()
        shutil.rmtree(self._directory)


class EchoConversation(Conversation):
    """With a worker of two versions on the echo engine."""

    def __init__(self, *, max_batch_rows: int = 8) -> None:
        self.engine = EchoEngine()
        self.registry = EchoRegistry(
            echo_version(self.engine, "plain", weight=PLAIN), echo_version(self.engine, "other", weight=OTHER)
        )
        super().__init__(self.registry, max_batch_rows=max_batch_rows)

    def close_the_gate(self) -> None:
        """Occupies the device with a row of its own; what is asked from now on waits."""
        self.engine.gate.clear()
        self.ask("0")
        wait_for(lambda: self.engine.batches, 30)

    def end(self) -> None:
        self.engine.gate.set()
        super().end()


@pytest.fixture
def worker() -> Iterator[EchoConversation]:
    conversation = EchoConversation()
    yield conversation
    conversation.end()


def test_a_request_is_answered_with_every_label_best_first(worker: EchoConversation) -> None:
    number = worker.ask("500")
    message, payload = worker.answer()
    assert message.id == number
    score = 1 / (1 + math.exp(-500 / SCALE))
    assert list(payload[0]) == ["label", "score", "scores"]
    assert (payload[0]["label"], payload[0]["score"]) == ("yes", pytest.approx(score))
    assert list(payload[0]["scores"].items()) == [("yes", pytest.approx(score)), ("no", pytest.approx(1 - score))]
    assert min(message.timings.decode, message.timings.queue, message.timings.compute) >= 0


def test_rows_of_a_request_keep_their_order(worker: EchoConversation) -> None:
    numbers = random.Random(0).sample(range(5000), 40)  # five batches of eight rows, decoded by four threads
    worker.ask(*map(str, numbers))
    _, payload = worker.answer()
    assert decoded(payload, PLAIN) == numbers


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([("plain", PLAIN), ("other", OTHER)]),
            st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 40)), min_size=1, max_size=5),
        ),
        min_size=1,
        max_size=30,
    ),
    st.integers(1, 8),
)
def test_every_answer_is_that_of_its_own_rows_and_head(
    requests: list[tuple[tuple[str, float], list[tuple[int, int]]]], most: int
) -> None:
    worker = EchoConversation(max_batch_rows=most)
    try:
        wanted = {}
        for (name, weight), rows in requests:
            number = worker.ask(*(f"{n}{' 0' * padding}" for n, padding in rows), name=name)
            wanted[number] = weight, [n for n, _ in rows]
        for _ in requests:
            message, payload = worker.answer()
            weight, numbers = wanted.pop(message.id)
            assert decoded(payload, weight) == numbers
        assert not wanted
        # The thread that computed a part of a request may report after the one that ended it.
        count = sum(len(rows) for _, rows in requests)
        wait_for(lambda: sum(batch.rows for batch in worker.batches()) >= count, 30, pause=0.001)
        assert sum(batch.rows for batch in worker.batches()) == count
        assert all(len(batch) <= most for batch in worker.engine.batches)
    finally:
        worker.end()


def test_models_on_one_backbone_share_a_batch(worker: EchoConversation) -> None:
    worker.close_the_gate()
    plain, other = worker.ask("1", name="plain"), worker.ask("2", name="other")
    worker.wait_for_rows(2)
    worker.engine.gate.set()
    worker.answer()
    found = {message.id: payload for message, payload in (worker.answer(), worker.answer())}
    assert decoded(found[plain], PLAIN) == [1]
    assert decoded(found[other], OTHER) == [2]
    assert sorted(worker.engine.batches[1]) == [1, 2]


def test_a_bad_row_fails_alone_while_its_batch_mates_are_answered(worker: EchoConversation) -> None:
    worker.close_the_gate()
    good = [worker.ask(str(number)) for number in (1, 2, 3)]
    bad = worker.ask("blank")
    failure = worker.failure()
    assert (failure.id, failure.code, failure.message) == (bad, "empty_text", "the text is empty")
    worker.engine.gate.set()
    assert {worker.answer()[0].id for _ in range(4)} >= set(good)


def test_a_request_with_one_bad_instance_fails_whole_and_names_it(worker: EchoConversation) -> None:
    worker.ask("1", "2", "blank", "4")
    assert worker.failure().message == "instance 2: the text is empty"
    following = worker.ask("5")  # no answer of the failed request comes before it
    message, payload = worker.answer()
    assert message.id == following
    assert decoded(payload, PLAIN) == [5]


@pytest.mark.parametrize("number", [POISON, NOT_FINITE])
def test_a_row_that_breaks_the_engine_fails_alone(worker: EchoConversation, number: int) -> None:
    worker.close_the_gate()
    wanted = {worker.ask(str(good)): good for good in (1, 2)}
    poisoned = worker.ask(str(number))
    worker.wait_for_rows(3)
    worker.engine.gate.set()
    worker.answer()
    for _ in range(3):
        message, payload = worker.receive()
        if isinstance(message, Failure):
            assert (message.id, message.code) == (poisoned, "internal")
            assert "poison" not in message.message
        else:
            assert isinstance(message, Answer)
            assert decoded(payload, PLAIN) == [wanted.pop(message.id)]
    assert not wanted
    assert len(worker.engine.batches[1]) == 3


def test_a_row_that_breaks_the_preprocessor_is_an_internal_error(worker: EchoConversation) -> None:
    number = worker.ask("?")
    failure = worker.failure()
    assert (failure.id, failure.code) == (number, "internal")
    assert "invalid literal" not in failure.message
    worker.ask("1")
    worker.answer()


def test_a_cancelled_request_is_neither_computed_nor_answered(worker: EchoConversation) -> None:
    worker.close_the_gate()
    cancelled = worker.ask("7")
    worker.wait_for_rows(1)
    worker.send(Cancel(id=cancelled))
    wait_for(lambda: worker.worker._scheduler.waiting == 0, 30)  # its memory is free before its turn comes
    kept = worker.ask("8")
    worker.wait_for_rows(1)
    worker.engine.gate.set()
    worker.answer()
    assert worker.answer()[0].id == kept
    assert worker.engine.batches == [[0], [8]]


def test_a_cancel_for_nobody_is_ignored(worker: EchoConversation) -> None:
    worker.send(Cancel(id=12345))
    worker.ask("1")
    worker.answer()


def test_a_cancel_while_the_row_is_computed_drops_its_answer(worker: EchoConversation) -> None:
    worker.engine.gate.clear()
    worker.send(Cancel(id=worker.ask("7")))
    following = worker.ask("blank")
    assert worker.failure().id == following  # so the cancel, which came before, has been read
    worker.engine.gate.set()
    number = worker.ask("1")
    assert worker.answer()[0].id == number


@pytest.mark.parametrize(
    ("top_k", "labels"), [(1, ["no"]), (2, ["no", "yes"]), (9, ["no", "yes"]), (None, ["no", "yes"])]
)
def test_top_k_lists_the_best_only(worker: EchoConversation, top_k: int | None, labels: list[str]) -> None:
    worker.ask("3000", name="other", top_k=top_k)
    _, (prediction,) = worker.answer()
    assert list(prediction["scores"]) == labels
    assert prediction["label"] == "no"


def test_an_answer_says_that_its_text_was_cut(worker: EchoConversation) -> None:
    worker.ask("1", truncate=True)
    worker.ask("1")
    assert [payload[0].get("truncated") for _, payload in (worker.answer(), worker.answer())] == [True, None]


def test_a_text_that_is_no_utf8_is_refused(worker: EchoConversation) -> None:
    worker.ask(b"\xff\xfe")
    assert worker.failure().code == "invalid_utf8"


def test_a_version_that_is_not_loaded_is_a_failure(worker: EchoConversation) -> None:
    worker.ask("1", name="unknown")
    assert worker.failure().code == "version_not_found"


def test_every_batch_is_reported_once(worker: EchoConversation) -> None:
    worker.ask(*map(str, range(20)))
    worker.answer()
    worker.ask("1")
    worker.answer()
    reported = worker.batches()
    assert Counter((batch.backbone, batch.rows) for batch in reported) == Counter(  # two threads may send in any order
        ("echo-backbone", len(numbers)) for numbers in worker.engine.batches
    )
    assert all(batch.seconds > 0 for batch in reported)


def test_loads_are_acknowledged_and_do_not_hold_up_predictions(worker: EchoConversation) -> None:
    released = threading.Event()
    worker.registry.on_load = lambda name, number: assert_true(released.wait(30))
    worker.send(Load(name="plain", number=1))
    worker.ask("1")
    worker.answer()
    released.set()
    assert worker.receive()[0] == Loaded(name="plain", number=1, serving=SERVING)


@pytest.mark.parametrize(
    ("reason", "told"),
    [("head.safetensors is damaged", "head.safetensors is damaged"), ("extra file \udcff", "extra file ?")],
)
def test_a_refused_load_says_why(worker: EchoConversation, reason: str, told: str) -> None:
    worker.registry.refused[2] = reason
    worker.send(Load(name="plain", number=2))
    assert worker.receive()[0] == LoadFailed(name="plain", number=2, reason=told)


def test_a_load_that_breaks_is_refused_without_details(worker: EchoConversation) -> None:
    def out_of_memory(name: str, number: int) -> None:
        raise MemoryError("0x1234")

    worker.registry.on_load = out_of_memory
    worker.send(Load(name="plain", number=1))
    message, _ = worker.receive()
    assert isinstance(message, LoadFailed)
    assert "0x1234" not in message.reason


def test_loads_and_unloads_keep_their_order(worker: EchoConversation) -> None:
    worker.send(Load(name="plain", number=1))
    worker.send(Unload(name="plain", number=1))
    worker.send(Load(name="other", number=1))
    worker.receive()
    worker.receive()
    assert worker.registry.loads == [("plain", 1), ("other", 1)]
    assert worker.registry.unloads == [("plain", 1)]


def test_l18_a_message_that_cannot_be_handled_ends_the_worker(
    worker: EchoConversation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as for want of threads: were it to stay, it would be deaf, and nobody would replace it."""

    def refuse(*_args: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(worker.worker._loader, "submit", refuse)
    worker.send(Load(name="plain", number=1))
    worker.thread.join(30)
    assert not worker.thread.is_alive()
    assert "can't start new thread" in caplog.text


def test_the_end_of_the_connection_ends_the_worker(worker: EchoConversation) -> None:
    worker.socket.shutdown(socket.SHUT_RDWR)
    worker.thread.join(30)
    assert not worker.thread.is_alive()


@pytest.mark.parametrize("size", [1, PREFIX.size, PREFIX.size + 5, -1])
def test_a_frame_that_breaks_off_ends_the_worker(worker: EchoConversation, size: int) -> None:
    frame = pack(Predict(id=1, name="plain", number=1, sizes=[1], deadline=time.monotonic() + 60), 1) + b"1"
    worker.socket.sendall(frame[:size])
    worker.socket.shutdown(socket.SHUT_WR)
    worker.thread.join(30)
    assert not worker.thread.is_alive()


# Rows that nobody waits for


def test_o04_cancelled_rows_are_never_computed_and_counted(worker: EchoConversation) -> None:
    worker.close_the_gate()
    cancelled = [worker.ask(str(number), str(100 + number)) for number in range(1, 6)]
    worker.wait_for_rows(10)
    for number in cancelled:
        worker.send(Cancel(id=number))
    wait_for(lambda: worker.worker._scheduler.waiting == 0, 30)
    kept = worker.ask("8")
    worker.wait_for_rows(1)
    worker.engine.gate.set()
    assert set(worker.outcomes(2)) == {0, kept}
    assert worker.engine.batches == [[0], [8]]
    assert worker.dropped() == 10
    assert not worker.worker._requests._requests


def test_o05_rows_past_their_deadline_are_never_computed(worker: EchoConversation) -> None:
    worker.close_the_gate()
    waiting = worker.ask("7", "7", seconds=0.2)
    worker.wait_for_rows(2)
    too_late = worker.ask("blank", seconds=-1.0)  # it is not even decoded, which would fail
    kept = worker.ask("8")
    worker.wait_for_rows(3)
    wait_for(lambda: worker.worker._requests._requests[waiting].abandoned, 30)
    worker.engine.gate.set()
    assert set(worker.outcomes(2)) == {0, kept}
    assert worker.engine.batches == [[0], [8]]
    assert worker.dropped() == 3
    for number in (waiting, too_late):  # whoever asked says so when his own clock runs out
        worker.send(Cancel(id=number))
    worker.ask("1")
    worker.answer()
    assert not worker.worker._requests._requests


# Servables that do not keep their word, or never end


@pytest.mark.parametrize("predictions", [[], [{}, {}], [{"score": 1j}]])
def test_predictions_that_cannot_be_answers_fail_their_rows_only(predictions: list[Any]) -> None:
    servable = Held(Echo(backbone="echo", batch_seconds=0.0, row_seconds=0.0))
    conversation = Conversation(Echoes(servable))  # type: ignore[arg-type]
    honest = servable.compute
    servable.compute = lambda batch: predictions if batch[0].row == b"odd" else honest(batch)  # type: ignore[method-assign]
    try:
        for row, is_answered in [(b"odd", False), (b"good", True)]:
            number = conversation.ask(row, name="echo")
            assert (conversation.outcomes(1)[number] != "internal") is is_answered
    finally:
        conversation.end()


class Panic(BaseException):
    """As a library in Rust raises it."""


@pytest.mark.parametrize("where", ["prepare", "compute"])
def test_a_panic_fails_its_row_only(where: str) -> None:
    servable = Held(Echo(backbone="echo", batch_seconds=0.0, row_seconds=0.0))
    conversation = Conversation(Echoes(servable))  # type: ignore[arg-type]
    prepare, compute = servable.prepare, servable.compute

    def prepare_or_panic(item: bytes, *, truncate: bool) -> Prepared:
        if where == "prepare" and item == b"panic":
            raise Panic
        return prepare(item, truncate=truncate)

    def compute_or_panic(batch: Sequence[PendingRow]) -> Sequence[Mapping[str, object]]:
        if where == "compute" and b"panic" in [waiting.row for waiting in batch]:
            raise Panic
        return compute(batch)

    servable.prepare, servable.compute = prepare_or_panic, compute_or_panic  # type: ignore[method-assign]
    try:
        ids = [conversation.ask(row, name="echo") for row in [b"panic"] * 10 + [b"good"]]
        outcomes = conversation.outcomes(11)
        assert [outcomes[number] for number in ids[:-1]] == ["internal"] * 10
        assert outcomes[ids[-1]][0]["label"] == hashlib.sha256(b"good").hexdigest()
    finally:
        conversation.end()


def test_rows_that_wait_to_be_decoded_are_forgotten_with_their_request() -> None:
    servable = Held(Echo(backbone="echo", batch_seconds=0.0, row_seconds=0.0))
    conversation = Conversation(Echoes(servable))  # type: ignore[arg-type]
    held, prepare = threading.Event(), servable.prepare

    def wait(item: bytes, *, truncate: bool) -> Prepared:
        assert held.wait(30)
        return prepare(item, truncate=truncate)

    servable.prepare = wait  # type: ignore[method-assign]
    try:
        ids = [conversation.ask(b"%d" % number, name="echo") for number in range(100)]
        wait_for(lambda: conversation.worker._record.busy_seconds() > 0, 30)
        for number in ids:
            conversation.send(Cancel(id=number))
        wait_for(lambda: not conversation.worker._decoders._queue, 30)
        held.set()
        wait_for(lambda: conversation.dropped() > 0, 30)
        conversation.ask(b"good", name="echo")
        conversation.answer()
        assert conversation.dropped() + sum(servable.sizes) - 1 == 100
    finally:
        held.set()
        conversation.end()


def test_a_load_that_panics_is_refused(worker: EchoConversation) -> None:
    def panic(name: str, number: int) -> None:
        raise Panic

    worker.worker._servables.load = panic  # type: ignore[assignment, method-assign]
    worker.send(Load(name="plain", number=1))
    assert isinstance(worker.receive()[0], LoadFailed)


def test_l04_a_row_that_is_decoded_for_ever_is_seen() -> None:
    servable = Held(Echo(backbone="echo", batch_seconds=0.0, row_seconds=0.0))
    conversation = Conversation(Echoes(servable))  # type: ignore[arg-type]
    held, prepare = threading.Event(), servable.prepare

    def hang(item: bytes, *, truncate: bool) -> Prepared:
        assert item == b"good" or held.wait(30)
        return prepare(item, truncate=truncate)

    servable.prepare = hang  # type: ignore[method-assign]
    try:
        conversation.ask(b"endless", name="echo")
        wait_for(lambda: conversation.worker._report().busy_seconds > 0.05, 30)
        conversation.ask(b"good", name="echo")  # beside it
        conversation.answer()
        assert conversation.worker._report().busy_seconds > 0.05
        held.set()
        conversation.answer()
        wait_for(lambda: conversation.worker._report().busy_seconds == 0, 30)
    finally:
        held.set()
        conversation.end()


# G14: k bad rows of 8 are k errors, and the others are answered as if they had been alone


class Held:
    """A servable whose device is held by a gate.

    Attributes:
        sizes: of the batches that were asked for.
    """

    def __init__(self, echo: Echo) -> None:
        self.backbone = echo.backbone
        self.streams = 1
        self.cost = UNMEASURED
        self.gate = threading.Event()
        self.gate.set()
        self.sizes: list[int] = []
        self._echo = echo

    def prepare(self, item: bytes, *, truncate: bool) -> Prepared:
        return self._echo.prepare(item, truncate=truncate)

    def compute(self, batch: Sequence[PendingRow]) -> Sequence[Mapping[str, object]]:
        self.sizes.append(len(batch))
        assert self.gate.wait(30)
        return self._echo.compute(batch)


class HeldEchoes(Echoes):
    def __init__(self) -> None:
        self.held = Held(Echo(backbone="echo", batch_seconds=0.0, row_seconds=0.0))
        super().__init__(self.held)  # type: ignore[arg-type]


@dataclass(kw_only=True)
class Batches:
    """Sends one-row requests so that all that can be computed is one batch."""

    conversation: Conversation
    gate: threading.Event
    sizes: Sequence[int]
    name: str
    filler: bytes = b"filler"
    codes: dict[bytes, str] = field(default_factory=dict)

    def alone(self, row: bytes) -> Any:
        """Its outcome without company."""
        number = self.conversation.ask(row, name=self.name)
        return self.conversation.outcomes(1)[number]

    def together(self, rows: Sequence[bytes], *, decodable: int) -> list[Any]:
        """The outcome of each row."""
        before = len(self.sizes)
        self.gate.clear()
        filler = self.conversation.ask(self.filler, name=self.name)
        wait_for(lambda: len(self.sizes) > before, 30, pause=0.0005)
        ids = [self.conversation.ask(row, name=self.name) for row in rows]
        self.conversation.wait_for_rows(decodable)
        self.gate.set()
        found = self.conversation.outcomes(len(rows) + 1)
        assert found.pop(filler) == self.alone(self.filler)
        assert list(self.sizes[before + 1 : before + 2]) == ([decodable] if decodable else [1])
        return [found[number] for number in ids]


@pytest.fixture
def echoes() -> Iterator[Batches]:
    servables = HeldEchoes()
    conversation = Conversation(servables)
    yield Batches(conversation=conversation, gate=servables.held.gate, sizes=servables.held.sizes, name="echo")
    servables.held.gate.set()
    conversation.end()


PATTERNS = list(itertools.product([False, True], repeat=8))


@pytest.mark.parametrize(("word", "code"), [(BAD, "empty_text"), (BUG, "internal")])
def test_g14_exactly_the_bad_rows_fail(echoes: Batches, word: bytes, code: str) -> None:
    good = [b"good %d" % index for index in range(8)]
    bad = [b"%s %d" % (word, index) for index in range(8)]
    unbatched = [echoes.alone(row) for row in good]
    assert [predictions[0]["label"] for predictions in unbatched] == [hashlib.sha256(row).hexdigest() for row in good]
    for pattern in PATTERNS:
        rows = [bad[index] if is_bad else good[index] for index, is_bad in enumerate(pattern)]
        decodable = 8 if word == BUG else 8 - sum(pattern)
        wanted = [code if is_bad else unbatched[index] for index, is_bad in enumerate(pattern)]
        assert echoes.together(rows, decodable=decodable) == wanted, pattern


class BuggyEngine:
    """A real engine with a bug: a batch with a certain token breaks it.

    Attributes:
        gate: closed, it holds the device.
        sizes: of the batches that were asked for.
    """

    TOKEN = 5 + 38  # the exclamation mark, in the vocabulary of the tiny text encoder

    def __init__(self, engine: Engine) -> None:
        self.identity = engine.identity
        self.streams = engine.streams
        self.cost = engine.cost
        self.gate = threading.Event()
        self.gate.set()
        self.sizes: list[int] = []
        self._engine = engine

    def features(self, batch: EngineBatch, kind: FeatureKind) -> Features:
        assert isinstance(batch, TextBatch)
        self.sizes.append(len(batch.ids_BT))
        assert self.gate.wait(30)
        if (batch.ids_BT == self.TOKEN).any():
            raise RuntimeError("a bug")
        return self._engine.features(batch, kind)

    def warm_up(self) -> None:
        self._engine.warm_up()


def test_g14_on_a_real_model(models_on_disk: Path) -> None:
    engines: list[BuggyEngine] = []

    def build(stored: StoredBackbone) -> Engine:
        engines.append(BuggyEngine(torch_engine(stored)))
        return engines[-1]

    registry = Registry(ModelRepository(models_on_disk), TorchEngines(build))
    registry.load("letters", 1)
    (engine,) = engines
    conversation = Conversation(registry)
    try:
        batches = Batches(
            conversation=conversation, gate=engine.gate, sizes=engine.sizes, name="letters", filler=b"it is x"
        )
        good = [b"it is %c" % letter for letter in b"abcdefgh"]
        unbatched = [batches.alone(row)[0]["scores"] for row in good]
        assert len({round(scores["vowel"], 5) for scores in unbatched}) == 8
        for pattern in PATTERNS:
            rows = [b"it is !" if is_bad else good[index] for index, is_bad in enumerate(pattern)]
            found = batches.together(rows, decodable=8)
            for index, is_bad in enumerate(pattern):
                if is_bad:
                    assert found[index] == "internal"
                else:
                    assert found[index][0]["scores"] == pytest.approx(unbatched[index], abs=1e-5)
    finally:
        engine.gate.set()
        conversation.end()


# L06: a device that has too little memory, or fails


def test_l06_a_batch_that_is_too_large_is_split_until_it_fits(echoes: Batches) -> None:
    rows = [FAT, *(b"good %d" % index for index in range(7))]
    outcomes = echoes.together(rows, decodable=8)
    assert [predictions[0]["label"] for predictions in outcomes] == [hashlib.sha256(row).hexdigest() for row in rows]
    assert echoes.sizes[1:8] == [8, 4, 2, 1, 1, 2, 4]


def test_l06_two_rows_that_are_too_large_together_are_computed_one_by_one(echoes: Batches) -> None:
    outcomes = echoes.together([FAT + b"1", FAT + b"2"], decodable=2)
    assert [predictions[0]["label"] for predictions in outcomes] == [
        hashlib.sha256(FAT + tail).hexdigest() for tail in (b"1", b"2")
    ]


def test_l06_a_row_that_is_too_large_alone_is_unavailable(echoes: Batches) -> None:
    assert echoes.alone(OBESE) == "out_of_memory"
    assert isinstance(echoes.alone(b"good"), list)


def test_l06_too_little_memory_to_decode_fails_that_request_only(echoes: Batches) -> None:
    def prepare(item: bytes, *, truncate: bool) -> Prepared:
        if item == b"huge":
            raise MemoryError
        return Prepared(item, "echo")

    echoes.conversation.worker._servables.get("echo", 1).prepare = prepare  # type: ignore[method-assign]
    assert echoes.alone(b"huge") == "out_of_memory"
    assert isinstance(echoes.alone(b"good"), list)


DEVICE_FAILS = """
import socket, sys
from pathlib import Path

from models.errors import DeviceFailed
from service.log import configure_logging
from service.messages import Hello
from service.worker.worker import serve_socket
from tests.faults.echo import Echo, Echoes

class Failing(Echo):
    def compute(self, batch):
        raise DeviceFailed("the device failed")

configure_logging()
servables = Echoes(Failing(backbone="echo", batch_seconds=0.0, row_seconds=0.0))
serve_socket(Path(sys.argv[1]), Hello(worker=0, pid=7, device="cpu"), servables, threads=1, max_batch_rows=4)
"""


def test_l06_a_failed_device_ends_the_process_at_once(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="gw-test-") as directory, socket.socket(socket.AF_UNIX) as listening:
        path = Path(directory, "workers.sock")
        listening.bind(str(path))
        listening.listen()
        process = subprocess.Popen(
            [sys.executable, "-c", DEVICE_FAILS, str(path)],
            cwd=Path(__file__).parents[3],
            stderr=subprocess.PIPE,
            text=True,
        )
        connection, _ = listening.accept()
        with connection:
            connection.settimeout(30)
            predict = Predict(id=0, name="echo", number=1, sizes=[1, 1], deadline=time.monotonic() + 60)
            connection.sendall(pack(predict, 2) + b"ab")
            while connection.recv(65536):  # its hello, and no answer
                pass
        _, log = process.communicate(timeout=30)
        assert process.returncode == 1
        assert "the device failed; this worker ends" in json.loads(log.splitlines()[-1])["message"]
        assert FlightRecord.read(path.with_name("flight-7")) >= {(0, 0)}


# Rows that may have ended another worker


class Hands:
    """A servable that looks at what is in the worker's hands while it is at work.

    Attributes:
        seen: the item (nothing for a batch), and the record then.
        gate: closed, it holds the device.
    """

    backbone = "echo"
    streams = 1
    cost = UNMEASURED

    def __init__(self) -> None:
        self.look: Callable[[], set[tuple[int, int]]] = set
        self.gate = threading.Event()
        self.gate.set()
        self.seen: list[tuple[bytes | None, set[tuple[int, int]]]] = []

    def prepare(self, item: bytes, *, truncate: bool) -> Prepared:
        self.seen.append((item, self.look()))
        return Prepared(item, "echo")

    def compute(self, batch: Sequence[PendingRow]) -> Sequence[Mapping[str, object]]:
        self.seen.append((None, self.look()))
        assert self.gate.wait(30)
        if BUG in [waiting.row for waiting in batch]:
            raise RuntimeError("a bug")
        if len(batch) > 2:
            raise MemoryError
        return [{"label": waiting.row.decode()} for waiting in batch]


@pytest.fixture
def hands() -> Iterator[tuple[Hands, Conversation]]:
    servable = Hands()
    conversation = Conversation(Echoes(servable))  # type: ignore[arg-type]
    servable.look = lambda: FlightRecord.read(conversation.record)
    yield servable, conversation
    conversation.end()


def test_the_record_says_what_is_in_hand(hands: tuple[Hands, Conversation]) -> None:
    servable, conversation = hands
    number = conversation.ask("one", name="echo")
    conversation.answer()
    assert servable.seen == [(b"one", {(number, 0)}), (None, {(number, 0)})]
    assert servable.look() == set()


@pytest.mark.parametrize(("first", "parts"), [(b"large", [4, 2, 2]), (BUG, [4, 1, 1, 1, 1])])
def test_the_record_of_a_batch_in_parts_is_that_of_each_part(
    hands: tuple[Hands, Conversation], first: bytes, parts: list[int]
) -> None:
    servable, conversation = hands
    servable.gate.clear()
    conversation.ask("filler", name="echo")
    wait_for(lambda: (None, {(0, 0)}) in servable.seen, 30)
    ids = [conversation.ask(row, name="echo") for row in (first, "1", "2", "3")]
    conversation.wait_for_rows(4)
    servable.seen.clear()
    servable.gate.set()
    conversation.outcomes(5)
    records = [{number for number, _ in record} for _, record in servable.seen]
    assert [len(record) for record in records] == parts
    assert records[0] == set.union(*records[1:]) == set(ids)
    assert servable.look() == set()


def test_l03_a_suspected_row_is_alone_in_the_workers_hands(hands: tuple[Hands, Conversation]) -> None:
    servable, conversation = hands
    suspects = set()
    for number in range(30):
        conversation.ask(*(f"other {number}.{index}" for index in range(4)), name="echo")
        suspects.add(conversation.ask(f"suspect {number}", "suspect again", name="echo", isolated=True))
    conversation.outcomes(60)
    looks = [(item, record) for item, record in servable.seen if {number for number, _ in record} & suspects]
    assert len(looks) == 2 * 2 * len(suspects)  # each row once while it is prepared, and once while it is computed
    assert all(len(record) == 1 for _, record in looks)


def test_a_suspected_row_that_is_bad_is_answered_like_any_other(echoes: Batches) -> None:
    for row, code in [(BAD, "empty_text"), (BUG, "internal"), (OBESE, "out_of_memory")]:
        echoes.conversation.ask(b"good", row, name="echo", isolated=True)
        (outcome,) = echoes.conversation.outcomes(1).values()
        assert outcome == code
        wait_for(lambda: echoes.conversation.worker._report().busy_seconds == 0, 30)
    echoes.conversation.ask(b"good", FAT, name="echo", isolated=True)
    (predictions,) = echoes.conversation.outcomes(1).values()
    assert [each["label"] for each in predictions] == [hashlib.sha256(row).hexdigest() for row in (b"good", FAT)]
    assert echoes.conversation.worker._report().busy_seconds == 0


# Its own reports


def test_l04_a_worker_says_regularly_that_it_lives_and_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "REPORT_SECONDS", 0.02)
    worker = EchoConversation()
    try:
        assert worker.report().busy_seconds == 0
        worker.close_the_gate()
        worker.ask("1", "2", "3")
        worker.wait_for_rows(3)
        worker.all_reports()
        first, second = worker.report(), worker.report()
        assert (first.waiting, first.batches) == (3, [])
        assert 0 < first.busy_seconds < second.busy_seconds
        worker.engine.gate.set()
        worker.outcomes(2)
        while worker.report().busy_seconds:
            pass
    finally:
        worker.end()
