from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from models.errors import Overloaded
from service.api.admission import MOST_SECONDS, YIELDS_SECONDS, Admission, Ticket
from service.api.metrics import Metrics
from service.messages import Batch

MOST_ROWS, MOST_BYTES, LARGEST = 20, 1000, 12
LONG = 1e6  # seconds


def admission(*, max_rows: int = MOST_ROWS, max_bytes: int = MOST_BYTES, workers: int = 1) -> Admission:
    return Admission(max_rows=max_rows, max_bytes=max_bytes, workers=workers, metrics=Metrics("0"))


def batch(rows: int, seconds: float) -> Batch:
    return Batch(backbone="b", rows=rows, seconds=seconds)


class Requests(RuleBasedStateMachine):
    """Requests that come, take their share in pieces, are refused, and go in any order."""

    tickets: Bundle[Ticket] = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.metrics = Metrics("0")
        self.admission = Admission(max_rows=MOST_ROWS, max_bytes=MOST_BYTES, workers=1, metrics=self.metrics)
        self.held: dict[Ticket, tuple[int, int]] = {}

    @rule(target=tickets)
    def come(self) -> Ticket:
        try:
            ticket = self.admission.ticket().__enter__()
        except Overloaded:
            assert self.rows >= MOST_ROWS
            ticket = Ticket(self.admission)  # of nobody, who takes nothing
        self.held[ticket] = (0, 0)
        return ticket

    @rule(ticket=tickets, rows=st.integers(1, LARGEST))
    def take_rows(self, ticket: Ticket, rows: int) -> None:
        before = self.rows
        try:
            ticket.take_rows(rows)
        except Overloaded:
            assert before >= MOST_ROWS
        else:
            assert before < MOST_ROWS
            held_rows, held_bytes = self.held[ticket]
            self.held[ticket] = (held_rows + rows, held_bytes)

    @rule(ticket=tickets, size=st.integers(0, MOST_BYTES))
    def take_bytes(self, ticket: Ticket, size: int) -> None:
        before = self.bytes
        try:
            ticket.take_bytes(size)
        except Overloaded:
            assert before + size > MOST_BYTES
        else:
            held_rows, held_bytes = self.held[ticket]
            self.held[ticket] = (held_rows, held_bytes + size)

    @rule(ticket=consumes(tickets), error=st.booleans())
    def go(self, ticket: Ticket, error: bool) -> None:
        with suppress(ZeroDivisionError), ticket:
            if error:
                raise ZeroDivisionError
        del self.held[ticket]

    @property
    def rows(self) -> int:
        return sum(rows for rows, _ in self.held.values())

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.held.values())

    @invariant()
    def what_is_in_flight_is_the_sum_of_the_tickets(self) -> None:
        assert self.admission.rows == self.rows
        assert self.admission.bytes == self.bytes
        assert 0 <= self.rows < MOST_ROWS + LARGEST  # the last one in may go beyond, so that the largest gets in at all
        assert 0 <= self.bytes <= MOST_BYTES
        assert self.metrics.registry.get_sample_value("graftwork_in_flight_rows") == self.rows
        assert self.metrics.registry.get_sample_value("graftwork_in_flight_bytes") == self.bytes


TestRequests = Requests.TestCase


def test_a_full_server_refuses_before_the_body_is_read() -> None:
    full = admission(max_rows=4)
    with full.ticket() as first:
        first.take_rows(4)
        with pytest.raises(Overloaded):
            full.ticket()
    full.ticket()


def test_even_the_largest_request_is_admitted_to_an_idle_server() -> None:
    idle = admission(max_rows=1)
    with idle.ticket() as ticket:
        ticket.take_rows(64)
        assert idle.rows == 64
    assert idle.rows == 0


def test_two_who_came_before_their_rows_were_known_are_told_apart_then() -> None:
    small = admission(max_rows=2)
    with small.ticket() as first, small.ticket() as second:
        first.take_rows(2)
        with pytest.raises(Overloaded):
            second.take_rows(1)
        assert small.rows == 2
    assert small.rows == 0


@pytest.mark.parametrize(
    ("rows", "workers", "seconds"), [(0, 1, 1), (1, 1, 1), (40, 1, 2), (41, 1, 3), (41, 2, 2), (10**6, 1, MOST_SECONDS)]
)
def test_who_is_refused_may_come_back_when_what_is_in_flight_will_be_done(
    rows: int, workers: int, seconds: int
) -> None:
    measured = admission(max_rows=1, workers=workers)
    measured.observe([batch(8, 0.4)] * 3)  # 50 ms a row
    measured.rows = rows
    assert measured.retry_after_seconds() == seconds
    if rows:
        with pytest.raises(Overloaded) as caught:
            measured.ticket()
        assert caught.value.retry_after_seconds == seconds


def test_without_a_measurement_it_is_a_second() -> None:
    measured = admission()
    measured.rows = 1000
    assert measured.retry_after_seconds() == 1


def test_the_measured_rate_follows_the_batches_but_not_each_of_them() -> None:
    measured = admission()
    measured.rows = 100
    measured.observe([batch(1, 0.1)])
    assert measured.retry_after_seconds() == 10
    measured.observe([batch(1, 1.0)])
    assert measured.retry_after_seconds() == 19
    measured.observe([batch(2, 2 * 0.02)] * 100)
    assert measured.retry_after_seconds() == 3


@given(st.lists(st.builds(batch, st.integers(1, 64), st.floats(0, 1e6))), st.integers(0, 10**6), st.integers(1, 64))
def test_retry_after_is_a_whole_number_of_seconds_that_makes_sense(
    batches: list[Batch], rows: int, workers: int
) -> None:
    measured = admission(workers=workers)
    measured.observe(batches)
    measured.rows = rows
    seconds = measured.retry_after_seconds()
    assert 1 <= seconds <= MOST_SECONDS
    assert math.floor(seconds) == seconds


def test_long_lists_leave_the_last_quarter_to_others() -> None:
    async def story() -> None:
        limits = admission(max_rows=20)
        listing, other = limits.ticket(), limits.ticket()
        listing.announce_rows(24, LONG)
        await listing.wait_for_rows(8)
        await listing.wait_for_rows(8)  # 16 of 20 are taken now
        waiting = asyncio.create_task(listing.wait_for_rows(8))
        await asyncio.sleep(0)
        other.take_rows(4)
        listing.give_rows(4)  # 16 again: no room yet
        await asyncio.sleep(0)
        assert not waiting.done()
        assert (limits.rows, limits.waiting) == (16, 8)
        other.__exit__()
        await waiting
        assert (limits.rows, limits.waiting) == (20, 0)
        listing.__exit__()
        assert limits.rows == 0

    asyncio.run(story())


def test_lists_get_in_by_turns_and_none_is_refused() -> None:
    async def story() -> None:
        limits = admission(max_rows=40)
        entered: list[str] = []

        async def embed(name: str) -> None:
            with limits.ticket() as ticket:
                ticket.announce_rows(30, LONG)
                for _ in range(3):
                    await ticket.wait_for_rows(10)
                    entered.append(name)
                    await asyncio.sleep(0)
                    ticket.give_rows(10)

        await asyncio.gather(*map(embed, "abcd"))
        assert sorted(entered) == sorted("abcd" * 3)
        assert set(entered[:6]) == set("abcd")  # the last one has not waited for all of the first
        assert (limits.rows, limits.waiting) == (0, 0)

    asyncio.run(story())


def test_the_smallest_server_has_room_for_a_list() -> None:
    async def story() -> None:
        limits = admission(max_rows=1)
        ticket = limits.ticket()
        ticket.announce_rows(10, LONG)
        await ticket.wait_for_rows(5)
        waiting = asyncio.create_task(ticket.wait_for_rows(5))
        await asyncio.sleep(0)
        assert not waiting.done()
        ticket.give_rows(5)
        await waiting
        assert limits.rows == 5

    asyncio.run(story())


def test_a_list_is_refused_where_what_waits_takes_longer_than_it_has() -> None:
    limits = admission(max_rows=20)
    limits.ticket().announce_rows(1000, LONG)  # nothing has been measured yet
    limits.observe([batch(10, 1.0)])
    limits.ticket().announce_rows(1, 101.0)
    with pytest.raises(Overloaded) as refused:
        limits.ticket().announce_rows(1, 99.0)
    assert refused.value.retry_after_seconds == MOST_SECONDS
    assert limits.waiting == 1001


@pytest.mark.parametrize("its_turn", [False, True])
def test_a_list_that_is_given_up_waits_no_more(*, its_turn: bool) -> None:
    async def story() -> None:
        limits = admission(max_rows=20)
        full = limits.ticket()
        full.take_rows(19)

        async def embed() -> None:
            with limits.ticket() as ticket:
                ticket.announce_rows(1000, LONG)
                await ticket.wait_for_rows(10)

        waiting = asyncio.create_task(embed())
        await asyncio.sleep(0)
        assert (limits.rows, limits.waiting) == (19, 1000)
        if its_turn:
            full.__exit__()
            assert (limits.rows, limits.waiting) == (10, 990)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        if not its_turn:
            full.__exit__()
        assert (limits.rows, limits.waiting) == (0, 0)
        later = limits.ticket()
        later.announce_rows(1, LONG)
        async with asyncio.timeout(10):
            await later.wait_for_rows(1)

    asyncio.run(story())


def test_predictions_do_not_keep_lists_out_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a second, a part takes the next room that there is."""

    async def story() -> None:
        limits = admission(max_rows=20)
        others = [limits.ticket() for _ in range(19)]
        for ticket in others:
            ticket.take_rows(1)
        listing = limits.ticket()
        listing.announce_rows(8, LONG)
        waiting = asyncio.create_task(listing.wait_for_rows(8))
        await asyncio.sleep(0)
        others.pop().__exit__()
        await asyncio.sleep(0)
        assert not waiting.done()
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + YIELDS_SECONDS)
        others.pop().__exit__()
        await asyncio.sleep(0)
        assert waiting.done()
        assert (limits.rows, limits.waiting) == (25, 0)
        monkeypatch.undo()

    asyncio.run(story())
