"""Rows that nobody waits for any more."""

from __future__ import annotations

import threading

from service.messages import Cancel, Form
from service.worker.servable import Prepared
from tests.faults.echo import Echo, Echoes
from tests.processes import wait_for
from tests.service.worker.conversation import Conversation, EchoConversation
from tests.service.worker.held_echo import Held


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


def test_rows_that_wait_to_be_decoded_are_forgotten_with_their_request() -> None:
    servable = Held(Echo(backbone="echo", batch_seconds=0.0, row_seconds=0.0))
    conversation = Conversation(Echoes(servable))  # type: ignore[arg-type]
    held, prepare = threading.Event(), servable.prepare

    def wait(item: bytes, form: Form = "item", *, truncate: bool = False) -> Prepared:
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
