"""Servables that do not keep their word, or never end."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from service.messages import Form, Load, LoadFailed
from service.worker.pending import PendingRow
from service.worker.servable import Prepared
from tests.faults.echo import Echo, Echoes
from tests.processes import wait_for
from tests.service.worker.conversation import Conversation, EchoConversation
from tests.service.worker.held_echo import Held


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

    def prepare_or_panic(item: bytes, form: Form = "item", *, truncate: bool = False) -> Prepared:
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

    def hang(item: bytes, form: Form = "item", *, truncate: bool = False) -> Prepared:
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
