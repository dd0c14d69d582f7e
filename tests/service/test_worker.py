from __future__ import annotations

import json
import math
import random
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    Unload,
    pack,
    unpack,
)
from service.worker import Worker
from tests.service.conftest import NOT_FINITE, POISON, SCALE, EchoEngine, EchoRegistry, decoded, echo_version, wait_for

HELLO = Hello(worker=3, pid=1, device="cpu")
PLAIN, OTHER = 1.0, -2.5  # the weights of two heads on one backbone


class Conversation:
    """A worker in a thread, and the API process's end of its connection."""

    def __init__(self, *, max_batch_rows: int = 8) -> None:
        self.engine = EchoEngine()
        self.registry = EchoRegistry(
            echo_version(self.engine, "plain", weight=PLAIN), echo_version(self.engine, "other", weight=OTHER)
        )
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(30)
        self._theirs = theirs
        worker = Worker(theirs, self.registry, decode_threads=4, max_batch_rows=max_batch_rows)  # type: ignore[arg-type]
        self.thread = threading.Thread(target=worker.run, args=(HELLO,))
        self.thread.start()
        self._stream = self.socket.makefile("rb")
        self.ids = iter(range(1, 1 << 30))

    def send(self, message: Message, payload: bytes = b"") -> None:
        self.socket.sendall(pack(message, payload))

    def ask(self, *texts: str, name: str = "plain", top_k: int | None = None, truncate: bool = False) -> int:
        """Sends a request and returns its id."""
        rows = [text.encode() for text in texts]
        number = next(self.ids)
        sizes = [len(row) for row in rows]
        self.send(Predict(id=number, name=name, number=1, sizes=sizes, top_k=top_k, truncate=truncate), b"".join(rows))
        return number

    def receive(self) -> tuple[Message, Any]:
        header_size, payload_size = PREFIX.unpack(self._stream.read(PREFIX.size))
        message = unpack(self._stream.read(header_size))
        payload = self._stream.read(payload_size)
        return message, json.loads(payload) if payload else None

    def answer(self) -> tuple[Answer, list[dict[str, Any]]]:
        message, payload = self.receive()
        assert isinstance(message, Answer), message
        return message, payload

    def failure(self) -> Failure:
        message, _ = self.receive()
        assert isinstance(message, Failure), message
        return message

    def close_the_gate(self) -> None:
        """Occupies the device with a row of its own; what is asked from now on waits."""
        self.engine.gate.clear()
        self.ask("0")
        wait_for(lambda: self.engine.batches, 30)

    def end(self) -> None:
        self.engine.gate.set()
        self._stream.close()
        self.socket.close()
        self.thread.join(30)
        assert not self.thread.is_alive()
        self._theirs.close()


@pytest.fixture
def worker() -> Iterator[Conversation]:
    conversation = Conversation()
    assert conversation.receive() == (HELLO, None)
    yield conversation
    conversation.end()


def test_a_request_is_answered_with_every_label_best_first(worker: Conversation) -> None:
    number = worker.ask("500")
    message, payload = worker.answer()
    assert message.id == number
    score = 1 / (1 + math.exp(-500 / SCALE))
    assert list(payload[0]) == ["label", "score", "scores"]
    assert (payload[0]["label"], payload[0]["score"]) == ("yes", pytest.approx(score))
    assert list(payload[0]["scores"].items()) == [("yes", pytest.approx(score)), ("no", pytest.approx(1 - score))]
    assert min(message.timings.decode, message.timings.queue, message.timings.compute) >= 0


def test_rows_of_a_request_keep_their_order(worker: Conversation) -> None:
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
    worker = Conversation(max_batch_rows=most)
    try:
        worker.receive()
        wanted = {}
        for (name, weight), rows in requests:
            number = worker.ask(*(f"{n}{' 0' * padding}" for n, padding in rows), name=name)
            wanted[number] = weight, [n for n, _ in rows]
        batched = 0
        for _ in requests:
            message, payload = worker.answer()
            weight, numbers = wanted.pop(message.id)
            assert decoded(payload, weight) == numbers
            batched += sum(rows for _, rows in message.batches)
        assert not wanted
        assert batched == sum(len(rows) for _, rows in requests)
        assert all(len(batch) <= most for batch in worker.engine.batches)
    finally:
        worker.end()


def test_models_on_one_backbone_share_a_batch(worker: Conversation) -> None:
    worker.close_the_gate()
    plain, other = worker.ask("1", name="plain"), worker.ask("2", name="other")
    wait_for_rows(worker, 2)
    worker.engine.gate.set()
    worker.answer()
    found = {message.id: payload for message, payload in (worker.answer(), worker.answer())}
    assert decoded(found[plain], PLAIN) == [1]
    assert decoded(found[other], OTHER) == [2]
    assert sorted(worker.engine.batches[1]) == [1, 2]


def wait_for_rows(worker: Conversation, rows: int) -> None:
    """Until so many rows are decoded and wait: an unknown model's refusal says how many."""

    def waiting() -> bool:
        worker.ask("blank")
        return worker.failure().waiting >= rows

    wait_for(waiting, 30)


def test_a_bad_row_fails_alone_while_its_batch_mates_are_answered(worker: Conversation) -> None:
    worker.close_the_gate()
    good = [worker.ask(str(number)) for number in (1, 2, 3)]
    bad = worker.ask("blank")
    failure = worker.failure()
    assert (failure.id, failure.code, failure.message) == (bad, "empty_text", "the text is empty")
    worker.engine.gate.set()
    assert {worker.answer()[0].id for _ in range(4)} >= set(good)


def test_a_request_with_one_bad_instance_fails_whole_and_names_it(worker: Conversation) -> None:
    worker.ask("1", "2", "blank", "4")
    assert worker.failure().message == "instance 2: the text is empty"
    following = worker.ask("5")  # no answer of the failed request comes before it
    message, payload = worker.answer()
    assert message.id == following
    assert decoded(payload, PLAIN) == [5]


@pytest.mark.parametrize("number", [POISON, NOT_FINITE])
def test_a_row_that_breaks_the_engine_fails_alone(worker: Conversation, number: int) -> None:
    worker.close_the_gate()
    wanted = {worker.ask(str(good)): good for good in (1, 2)}
    poisoned = worker.ask(str(number))
    wait_for_rows(worker, 3)
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


def test_a_row_that_breaks_the_preprocessor_is_an_internal_error(worker: Conversation) -> None:
    number = worker.ask("?")
    failure = worker.failure()
    assert (failure.id, failure.code) == (number, "internal")
    assert "invalid literal" not in failure.message
    worker.ask("1")
    worker.answer()


def test_a_cancelled_request_is_neither_computed_nor_answered(worker: Conversation) -> None:
    worker.close_the_gate()
    cancelled = worker.ask("7")
    wait_for_rows(worker, 1)
    worker.send(Cancel(id=cancelled))
    kept = worker.ask("8")
    wait_for_rows(worker, 2)
    worker.engine.gate.set()
    worker.answer()
    assert worker.answer()[0].id == kept
    assert worker.engine.batches == [[0], [8]]


def test_a_cancel_for_nobody_is_ignored(worker: Conversation) -> None:
    worker.send(Cancel(id=12345))
    worker.ask("1")
    worker.answer()


def test_a_cancel_while_the_row_is_computed_drops_its_answer(worker: Conversation) -> None:
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
def test_top_k_lists_the_best_only(worker: Conversation, top_k: int | None, labels: list[str]) -> None:
    worker.ask("3000", name="other", top_k=top_k)
    _, (prediction,) = worker.answer()
    assert list(prediction["scores"]) == labels
    assert prediction["label"] == "no"


def test_an_answer_says_that_its_text_was_cut(worker: Conversation) -> None:
    worker.ask("1", truncate=True)
    worker.ask("1")
    assert [payload[0].get("truncated") for _, payload in (worker.answer(), worker.answer())] == [True, None]


def test_a_text_that_is_no_utf8_is_refused(worker: Conversation) -> None:
    worker.send(Predict(id=9, name="plain", number=1, sizes=[2]), b"\xff\xfe")
    assert worker.failure().code == "invalid_utf8"


def test_a_version_that_is_not_loaded_is_a_failure(worker: Conversation) -> None:
    worker.ask("1", name="unknown")
    assert worker.failure().code == "version_not_found"


def test_every_batch_is_reported_once(worker: Conversation) -> None:
    worker.ask(*map(str, range(20)))
    message, _ = worker.answer()
    reported = [tuple(batch) for batch in message.batches]
    assert reported == [("echo-backbone", len(batch)) for batch in worker.engine.batches]
    worker.ask("1")
    assert [tuple(batch) for batch in worker.answer()[0].batches] == [("echo-backbone", 1)]


def test_loads_are_acknowledged_and_do_not_hold_up_predictions(worker: Conversation) -> None:
    released = threading.Event()
    worker.registry.on_load = lambda name, number: assert_true(released.wait(30))
    worker.send(Load(name="plain", number=1))
    worker.ask("1")
    worker.answer()
    released.set()
    assert worker.receive()[0] == Loaded(name="plain", number=1)


def assert_true(value: bool) -> None:
    assert value


@pytest.mark.parametrize(
    ("reason", "told"),
    [("head.safetensors is damaged", "head.safetensors is damaged"), ("extra file \udcff", "extra file ?")],
)
def test_a_refused_load_says_why(worker: Conversation, reason: str, told: str) -> None:
    worker.registry.refused[2] = reason
    worker.send(Load(name="plain", number=2))
    assert worker.receive()[0] == LoadFailed(name="plain", number=2, reason=told)


def test_a_load_that_breaks_is_refused_without_details(worker: Conversation) -> None:
    def out_of_memory(name: str, number: int) -> None:
        raise MemoryError("0x1234")

    worker.registry.on_load = out_of_memory
    worker.send(Load(name="plain", number=1))
    message, _ = worker.receive()
    assert isinstance(message, LoadFailed)
    assert "0x1234" not in message.reason


def test_loads_and_unloads_keep_their_order(worker: Conversation) -> None:
    worker.send(Load(name="plain", number=1))
    worker.send(Unload(name="plain", number=1))
    worker.send(Load(name="other", number=1))
    worker.receive()
    worker.receive()
    assert worker.registry.loads == [("plain", 1), ("other", 1)]
    assert worker.registry.unloads == [("plain", 1)]


def test_the_end_of_the_connection_ends_the_worker(worker: Conversation) -> None:
    worker.socket.shutdown(socket.SHUT_RDWR)
    worker.thread.join(30)
    assert not worker.thread.is_alive()


@pytest.mark.parametrize("size", [1, PREFIX.size, PREFIX.size + 5, -1])
def test_a_frame_that_breaks_off_ends_the_worker(worker: Conversation, size: int) -> None:
    frame = pack(Predict(id=1, name="plain", number=1, sizes=[1]), b"1")
    worker.socket.sendall(frame[:size])
    worker.socket.shutdown(socket.SHUT_WR)
    worker.thread.join(30)
    assert not worker.thread.is_alive()
