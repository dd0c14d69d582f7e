"""Models and requests that wait get their turns: none holds up another, and no row starves."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.batch_cost import BatchCost
from service.worker.batch_plan import LOOKAHEAD
from service.worker.scheduler import Scheduler
from tests.service.worker.scheduled_rows import FLAT, LINEAR, Caller, Row, RowOf, rows, scheduler, take_all

STEEP = BatchCost(per_batch=0.0, per_row=1.0)  # batching wins nothing


def test_a_busy_group_does_not_starve_another() -> None:
    made = scheduler(*rows("aab"), max_batch_rows=1)
    taken = [made.take()[0]]
    for number in range(3, 8):  # one more of the busy group for each that is taken
        made.put(Row(number=number, group="a"))
        taken.append(made.take()[0])
    assert [row.group for row in taken[:3]] == ["a", "b", "a"]


def asked(model: str, request: int, count: int = 1, *, group: str = "g", **fields: Any) -> list[Row]:
    """The rows of a request."""
    return [Row(number=n, group=group, model=model, request=(model, request), **fields) for n in range(count)]


def batches_until(made: Scheduler[Row], row: Row) -> int:
    """How many batches are taken until one has the row in it."""
    return next(count for count in itertools.count(1) if row in made.take())


@pytest.mark.parametrize("model", ["large", "small"])
def test_one_row_behind_a_thousand_is_in_one_of_the_next_batches(model: str) -> None:
    made = scheduler(*asked("large", 0, 1000), max_batch_rows=8)
    for _ in range(3):
        made.take()
    (row,) = asked(model, 1)
    made.put(row)
    assert batches_until(made, row) <= (LOOKAHEAD + 1 if model == "large" else 1)


def test_a_flood_of_requests_for_one_model_does_not_hold_up_another() -> None:
    """Whether both are on one backbone or not."""
    for group in ("g", "another"):
        made = scheduler(*(row for request in range(500) for row in asked("flood", request)), max_batch_rows=8)
        for number in range(10):
            for request in range(8):
                for row in asked("flood", 1000 + 8 * number + request):
                    made.put(row)
            (row,) = asked("trickle", number, group=group)
            made.put(row)
            assert batches_until(made, row) <= 2  # beside at most one of those that were due as early


def test_a_model_whose_flood_was_cancelled_owes_nothing() -> None:
    leaves, stays = Caller(), Caller()
    made: Scheduler[RowOf] = Scheduler(max_batch_rows=1)
    for number in range(100):
        made.put(RowOf(number, "g", leaves, flow="flood"))
    made.take()
    leaves.gone = True
    made.drop_abandoned()
    first, second = RowOf(100, "g", stays, flow="flood"), RowOf(101, "g", stays, flow="trickle")
    made.put(first)
    made.put(second)
    assert [*made.take(), *made.take()] == [first, second]


def test_models_get_equal_shares_of_the_device_and_not_of_the_rows() -> None:
    dear = BatchCost(per_batch=0.0, per_row=3.0)
    cheap = BatchCost(per_batch=0.0, per_row=1.0)
    made = scheduler(*asked("dear", 0, 50, group="d", cost=dear), *asked("cheap", 0, 100, group="c", cost=cheap))
    taken = Counter(made.take()[0].model for _ in range(80))
    assert taken == {"dear": 20, "cheap": 60}


arrivals = st.lists(  # before each batch: requests of a model with so many rows of a length
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 6), st.integers(1, 40)), max_size=3), max_size=25
)


@settings(deadline=None)
@given(arrivals, st.integers(1, 6), st.sampled_from([FLAT, STEEP, LINEAR]))
def test_no_row_starves_whatever_comes(drawn: list[list[tuple[str, int, int]]], most: int, cost: BatchCost) -> None:
    """Each batch has at least the row that is due first; nothing that comes later is due before a row for ever."""
    made: Scheduler[Row] = Scheduler(max_batch_rows=most)
    sent: list[Row] = []
    put_at: dict[Row, int] = {}
    taken_at: dict[Row, int] = {}
    most_waiting = 0
    for turn, requests in enumerate([*drawn, *[[]] * 400]):
        for model, count, length in requests:
            made_now = asked(model, len(sent), count, group=model.replace("c", "b"), length=length, cost=cost)
            sent += made_now
            for row in made_now:
                made.put(row)
                put_at[row] = turn
        most_waiting = max(most_waiting, made.waiting)
        assert made.waiting == len(sent) - len(taken_at)
        if made.waiting:  # then it does not wait
            for row in made.take():
                assert row not in taken_at
                taken_at[row] = turn
    assert set(taken_at) == set(sent)
    for row in sent:
        assert taken_at[row] - put_at[row] <= (row.number + 3) * most_waiting


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 9)), max_size=8), st.integers(1, 5))
def test_rows_of_a_request_that_are_alike_keep_their_order(requests: list[tuple[str, int]], most: int) -> None:
    sent = [asked(model, number, count) for number, (model, count) in enumerate(requests)]
    made = scheduler(*(row for each in sent for row in each), max_batch_rows=most)
    taken = [row for batch in take_all(made) for row in batch]
    for each in sent:
        assert [row for row in taken if row in each] == each


def test_a_text_unlike_all_others_does_not_starve() -> None:
    made = scheduler(*asked("a", 0, 3, length=8, cost=LINEAR), max_batch_rows=4)
    (long,) = asked("a", 1, length=64, cost=LINEAR)
    made.put(long)
    for number in range(2, 7):
        for row in asked("a", number, 4, length=8, cost=LINEAR):
            made.put(row)
        if long in made.take():
            return
    pytest.fail("it was not taken")
