from __future__ import annotations

import math
import random
import socket
import threading
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.messages import PREFIX, Answer, Failure, Load, Loaded, LoadFailed, Predict, Unload, Wish, pack
from service.worker import worker as worker_module
from tests.processes import assert_true, wait_for
from tests.service.echo_engine import NOT_FINITE, POISON, SCALE, SERVING, decoded
from tests.service.worker.conversation import OTHER, PLAIN, EchoConversation


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
    failure = worker.failure()
    assert (failure.row, failure.message) == (2, "the text is empty")
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


@pytest.mark.parametrize(
    ("top_k", "labels"), [(1, ["no"]), (2, ["no", "yes"]), (9, ["no", "yes"]), (None, ["no", "yes"])]
)
def test_top_k_lists_the_best_only(worker: EchoConversation, top_k: int | None, labels: list[str]) -> None:
    worker.ask("3000", name="other", wish=Wish(top_k=top_k))
    _, (prediction,) = worker.answer()
    assert list(prediction["scores"]) == labels
    assert prediction["label"] == "no"


def test_an_answer_says_that_its_text_was_cut(worker: EchoConversation) -> None:
    worker.ask("1", wish=Wish(truncate=True))
    worker.ask("1")
    assert [payload[0].get("truncated") for _, payload in (worker.answer(), worker.answer())] == [True, None]


def test_a_text_that_is_no_utf8_is_refused(worker: EchoConversation) -> None:
    worker.ask(b"\xff\xfe")
    assert worker.failure().code == "invalid_utf8"


def test_a_version_that_is_not_loaded_is_a_failure(worker: EchoConversation) -> None:
    worker.ask("1", name="unknown")
    assert worker.failure().code == "version_not_found"


# Loads


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


# Its own reports


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


# Its end


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
