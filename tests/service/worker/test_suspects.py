"""What is in a worker's hands, and rows that may have ended another worker: they are there alone."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest

from models.batch_cost import UNMEASURED
from service.flight_record import FlightRecord
from service.messages import Form
from service.worker.pending import PendingRow
from service.worker.servable import Prepared
from tests.faults.echo import BAD, BUG, FAT, OBESE, Echoes
from tests.processes import wait_for
from tests.service.worker.batches import Batches
from tests.service.worker.conversation import Conversation


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

    def prepare(self, item: bytes, form: Form = "item", *, truncate: bool = False) -> Prepared:
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
