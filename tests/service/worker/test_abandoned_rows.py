"""Rows that nobody waits for any more."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from service.messages import Cancel, Form, Predict, pack
from service.worker.decoders import MOST_AT_ONCE
from service.worker.servable import Prepared
from tests.faults.echo import Echo, Echoes
from tests.processes import wait_for
from tests.service.worker.conversation import Conversation, EchoConversation
from tests.service.worker.held_echo import Held

DECODE_THREADS = 4


class HeldDecoders:
    """A conversation whose rows are held while they are decoded.

    Attributes:
        holds: how many rows are held.
    """

    def __init__(self) -> None:
        self._servable = Held(Echo(backbone="echo", batch_seconds=0.0, row_seconds=0.0))
        self._prepare, self._servable.prepare = self._servable.prepare, self._wait  # type: ignore[method-assign]
        self.conversation = Conversation(Echoes(self._servable))  # type: ignore[arg-type]
        self.holds = 0
        self.gate = threading.Event()

    def _wait(self, item: bytes, form: Form = "item", *, truncate: bool = False) -> Prepared:
        self.holds += 1
        assert self.gate.wait(60)
        return self._prepare(item, truncate=truncate)

    def assert_that_all_but_the_held_are_dropped(self, asked: int) -> None:
        """While the gate is closed; and in the end each row was either computed or counted as dropped."""
        most_held = DECODE_THREADS * MOST_AT_ONCE
        wait_for(lambda: self.conversation.dropped() >= max(1, asked - most_held), 30)
        self.gate.set()
        wait_for(lambda: self.conversation.dropped() + sum(self._servable.sizes) == asked, 30)
        self.conversation.ask(b"good", name="echo")
        self.conversation.answer()


@pytest.fixture
def held_decoders() -> Iterator[HeldDecoders]:
    held = HeldDecoders()
    yield held
    held.gate.set()
    held.conversation.end()


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


def test_rows_that_wait_to_be_decoded_are_forgotten_with_their_request(held_decoders: HeldDecoders) -> None:
    conversation = held_decoders.conversation
    ids = [conversation.ask(b"%d" % number, name="echo") for number in range(100)]
    wait_for(lambda: conversation.worker._record.busy_seconds() > 0, 30)
    for number in ids:
        conversation.send(Cancel(id=number))
    held_decoders.assert_that_all_but_the_held_are_dropped(100)


def test_a_cancel_that_is_read_together_with_its_request_drops_its_rows(held_decoders: HeldDecoders) -> None:
    conversation = held_decoders.conversation
    ids = [conversation.ask(b"%d" % number, name="echo") for number in range(DECODE_THREADS)]
    wait_for(lambda: held_decoders.holds == DECODE_THREADS, 30)
    together = [Predict(id=number, name="echo", number=1, sizes=[1], deadline=2**31) for number in range(100, 196)]
    conversation.socket.sendall(
        b"".join(pack(message, 1) + b"7" for message in together)
        + b"".join(pack(Cancel(id=number)) for number in [*ids, *(message.id for message in together)])
    )
    held_decoders.assert_that_all_but_the_held_are_dropped(len(ids) + len(together))
