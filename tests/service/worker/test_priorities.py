"""Requests for one model get their turns by priority: none waits for ever, and no other model pays for it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.batch_cost import BatchCost
from service.worker.fair_queue import BACKGROUND, DEFAULT, STEPS, URGENT, FairQueue, VirtualClock, level_of
from service.worker.scheduler import Scheduler
from tests.service.worker.conversation import EchoConversation
from tests.service.worker.scheduled_rows import FLAT, LINEAR, Row, scheduler

LEVELS = (URGENT, DEFAULT, BACKGROUND)
A_ROUND = sum(STEPS[BACKGROUND] // STEPS[level] for level in LEVELS)  # in which each level has what it is worth


class Queue:
    """A queue of rows that cost a second each."""

    def __init__(self) -> None:
        self._queue: FairQueue[Row] = FairQueue(VirtualClock())
        self._numbers = itertools.count()

    def put(self, level: int, *, request: object = None, model: str = "m") -> Row:
        number = next(self._numbers)
        row = Row(number=number, group="g", model=model, request=request or number, level=level)  # type: ignore[arg-type]
        self._queue.put(row, number)
        return row

    def pop(self) -> Row:
        return self._queue.pop(lambda row: 1.0)[1]

    def __len__(self) -> int:
        return len(self._queue)


@pytest.mark.parametrize(
    ("priority", "level"),
    [(0, DEFAULT), (1, URGENT), (2, DEFAULT), (3, BACKGROUND), (4, BACKGROUND), (2**32 - 1, BACKGROUND)],
)
def test_every_priority_has_one_of_three_levels(priority: int, level: int) -> None:
    assert level_of(priority) == level


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.data())
def test_an_urgent_row_goes_before_all_of_the_default_that_wait(requests: list[int], data: st.DataObject) -> None:
    queue = Queue()
    for request, rows in enumerate(requests, 1):
        for _ in range(rows):
            queue.put(DEFAULT, request=request)
    for _ in range(data.draw(st.integers(0, len(queue) - 1))):
        queue.pop()
    urgent = queue.put(URGENT)
    assert queue.pop() is urgent


@given(st.integers(0, STEPS[BACKGROUND] // STEPS[DEFAULT]), st.integers(0, 40))
def test_a_row_in_the_background_goes_after_those_of_the_default_that_wait(waiting: int, taken: int) -> None:
    queue = Queue()
    for _ in range(taken + waiting):
        queue.put(DEFAULT)
    for _ in range(taken):
        queue.pop()
    background = queue.put(BACKGROUND)
    assert [queue.pop() for _ in range(waiting + 1)][-1] is background


def test_levels_that_all_wait_get_sixteen_times_the_rows_of_the_one_below() -> None:
    queue = Queue()
    for level in LEVELS:
        for _ in range(A_ROUND):
            queue.put(level)
    assert Counter(queue.pop().level for _ in range(A_ROUND)) == {URGENT: 256, DEFAULT: 16, BACKGROUND: 1}


@given(st.lists(st.tuples(st.sampled_from(LEVELS), st.integers(1, 4)), max_size=40), st.sampled_from(LEVELS))
def test_no_row_starves_whatever_comes(arrivals: Sequence[tuple[int, int]], flood: int) -> None:
    """Not even while one row of a level comes for each that is taken."""
    queue = Queue()
    put_at: dict[Row, int] = {}
    waiting = sum(rows for _, rows in arrivals) + 1
    for turn in itertools.count():
        if turn < len(arrivals):
            level, rows = arrivals[turn]
            put_at.update((queue.put(level, request=turn + 1), turn) for _ in range(rows))
        queue.put(flood)
        row = queue.pop()
        if row in put_at:
            assert turn - put_at.pop(row) <= A_ROUND * waiting
        if turn >= len(arrivals) and not put_at:
            break
        assert turn <= len(arrivals) + A_ROUND * waiting


def test_one_model_s_urgent_rows_take_nothing_from_another_model() -> None:
    both = [
        Row(number=number, group="g", request=number, model=model, level=level)
        for number in range(50)
        for model, level in [("loud", URGENT), ("quiet", BACKGROUND)]
    ]
    made = scheduler(*both, max_batch_rows=8)
    for _ in range(12):
        assert Counter(row.model for row in made.take()) == {"loud": 4, "quiet": 4}


def test_urgent_rows_that_are_cancelled_leave_the_others_in_their_order() -> None:
    queue = Queue()
    rows = [queue.put(level) for level in (DEFAULT, URGENT, BACKGROUND, URGENT, DEFAULT)]
    assert queue._queue.discard(lambda row: row.level == URGENT) == 2
    assert [queue.pop() for _ in range(len(queue))] == [rows[0], rows[4], rows[2]]


@pytest.mark.parametrize(("cost", "length", "most"), [(FLAT, 8, 1), (LINEAR, 64, 2)])
def test_an_urgent_row_is_in_the_next_batch_even_where_the_next_ones_are_chosen_from_already(
    cost: BatchCost, length: int, most: int
) -> None:
    """One unlike the others in length may have to wait for one more."""
    made = scheduler(*(Row(number=n, group="g", request=n, length=8, cost=cost) for n in range(100)), max_batch_rows=8)
    made.take()
    urgent = Row(number=100, group="g", request=100, length=length, cost=cost, level=URGENT)
    made.put(urgent)
    assert urgent in [row for _ in range(most) for row in made.take()]


def test_rows_that_the_next_batches_are_chosen_from_do_not_starve_behind_urgent_ones() -> None:
    made: Scheduler[Row] = scheduler(
        *(Row(number=n, group="g", request=n, length=8, cost=LINEAR) for n in range(64)), max_batch_rows=8
    )
    waiting = set(range(64))
    for number in range(64, 20_000):
        made.put(Row(number=number, group="g", request=number, length=64, cost=LINEAR, level=URGENT))
        waiting -= {row.number for row in made.take()}
        if not waiting:
            return
    pytest.fail(f"{len(waiting)} rows wait")


def test_the_priority_of_a_request_reaches_the_queue() -> None:
    conversation = EchoConversation(max_batch_rows=1)
    try:
        conversation.close_the_gate()
        for priority in (3, 0, 1):
            conversation.ask(str(priority), priority=priority)
        conversation.wait_for_rows(3)
        conversation.engine.gate.set()
        conversation.outcomes(4)
        assert conversation.engine.batches[1:] == [[1], [0], [3]]
    finally:
        conversation.end()
