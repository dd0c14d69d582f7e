from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.batch_cost import BatchCost
from service.worker.batch_plan import LOOKAHEAD
from service.worker.scheduler import Scheduler
from tests.service.worker.scheduled_rows import FLAT, Row, rows, scheduler, take_all

STEEP = BatchCost(per_batch=0.0, per_row=1.0)  # batching wins nothing
LINEAR = BatchCost(per_batch=7.0, per_row=0.0, per_token=1.0)


@dataclass(kw_only=True, eq=False)
class Caller:
    gone: bool = False


@dataclass(frozen=True)
class RowOf:
    number: int
    group: str
    caller: Caller
    share: float = 0.0
    flow: str = "model"
    request: Hashable = None
    length: int = 1
    rows: int = 1
    cost: BatchCost = FLAT

    @property
    def abandoned(self) -> bool:
        return self.caller.gone


row_lists = st.lists(st.tuples(st.sampled_from("abc"), st.booleans())).map(
    lambda drawn: [Row(number=n, group=g, abandoned=a) for n, (g, a) in enumerate(drawn)]
)


def test_a_single_row_is_a_batch_at_once() -> None:
    (row,) = rows("a")
    assert scheduler(row).take() == [row]


def test_what_waits_when_the_device_is_free_is_one_batch() -> None:
    waiting = rows("aaa")
    made = scheduler(*waiting)
    assert made.waiting == 3
    assert made.take() == waiting
    assert made.waiting == 0


def test_a_batch_has_at_most_so_many_rows() -> None:
    waiting = rows("aaaaa")
    assert take_all(scheduler(*waiting, max_batch_rows=2)) == [waiting[:2], waiting[2:4], waiting[4:]]


def test_groups_take_turns() -> None:
    made = scheduler(*rows("abbbbbbbba"), max_batch_rows=4)
    assert ["".join(row.group for row in batch) for batch in take_all(made)] == ["aa", "bbbb", "bbbb"]


def test_a_busy_group_does_not_starve_another() -> None:
    made = scheduler(*rows("aab"), max_batch_rows=1)
    taken = [made.take()[0]]
    for number in range(3, 8):  # one more of the busy group for each that is taken
        made.put(Row(number=number, group="a"))
        taken.append(made.take()[0])
    assert [row.group for row in taken[:3]] == ["a", "b", "a"]


@given(row_lists, st.integers(1, 5))
def test_no_row_is_lost_or_twice_and_groups_never_mix(drawn: list[Row], most: int) -> None:
    made = scheduler(*drawn, Row(number=-1, group="last"), max_batch_rows=most)
    batches = take_all(made)
    assert made.take_dropped() == sum(row.abandoned for row in drawn)
    taken = [row for batch in batches for row in batch]
    assert Counter(taken) == Counter([row for row in drawn if not row.abandoned] + [Row(number=-1, group="last")])
    assert all(1 <= len(batch) <= most for batch in batches)
    assert all(len({row.group for row in batch}) == 1 for batch in batches)
    for group in "abc":
        numbers = [row.number for row in taken if row.group == group]
        assert numbers == sorted(numbers)


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


def test_texts_of_unlike_lengths_share_a_batch_only_where_padding_is_cheaper_than_a_batch() -> None:
    for cost, wanted in [(FLAT, [[9, 40, 9, 10, 39]]), (LINEAR, [[9, 9, 10], [40, 39]])]:
        texts = [Row(number=n, group="g", length=length, cost=cost) for n, length in enumerate([9, 40, 9, 10, 39])]
        assert [[row.length for row in batch] for batch in take_all(scheduler(*texts))] == wanted


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


# What did not fit into memory


def test_batches_are_not_made_larger_than_what_fitted() -> None:
    made = scheduler(*rows("a" * 64), max_batch_rows=16)
    made.too_large(made.take())
    assert [len(made.take()) for _ in range(3)] == [8, 8, 8]
    made.put(Row(number=64, group="b"))
    assert {len(made.take()) for _ in range(3)} == {8, 1}


def test_texts_are_limited_in_tokens_with_padding() -> None:
    made = scheduler(*(Row(number=n, group="g", length=10, cost=FLAT) for n in range(8)), max_batch_rows=8)
    batch = made.take()
    made.too_large(batch)
    for length in (10, 5, 40, 100):
        for row in batch:
            made.put(replace(row, length=length))
        assert len(made.take()) == max(1, 40 // length)
        while made.waiting:
            made.take()


# Rows that nobody waits for


def test_abandoned_rows_are_passed_over_and_counted_once() -> None:
    abandoned = [Row(number=n, group="a", abandoned=True) for n in range(3)]
    last = Row(number=3, group="b")
    made = scheduler(*abandoned, last)
    assert made.take() == [last]
    assert made.waiting == 0
    made.dropped(2)  # before they were put
    assert made.take_dropped() == 5
    assert made.take_dropped() == 0


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc"))))
def test_rows_that_are_abandoned_while_they_wait_are_forgotten_before_their_turn(drawn: list[tuple[bool, str]]) -> None:
    """Each is of a caller who stays or of one who leaves."""
    stays, leaves = Caller(), Caller()
    sent = [RowOf(number, group, leaves if goes else stays) for number, (goes, group) in enumerate(drawn)]
    made: Scheduler[RowOf] = Scheduler(max_batch_rows=3)
    for row in sent:
        made.put(row)
    leaves.gone = True
    made.drop_abandoned()
    left = [row for row in sent if row.caller is stays]
    assert made.waiting == len(left)
    assert made.take_dropped() == len(sent) - len(left)
    taken: list[RowOf] = []
    while made.waiting:
        taken += made.take()
    assert sorted(row.number for row in taken) == [row.number for row in left]
    assert made.take_dropped() == 0


# Threads


@settings(max_examples=15, deadline=None)
@given(st.lists(st.text("abc", max_size=40), min_size=1, max_size=4), st.integers(1, 7))
def test_threads_lose_nothing(groups_of: list[str], most: int) -> None:
    made: Scheduler[Row] = Scheduler(max_batch_rows=most)
    sent = [
        [Row(number=1000 * producer + index, group=group) for index, group in enumerate(groups)]
        for producer, groups in enumerate(groups_of)
    ]
    total = sum(len(each) for each in sent)
    taken: list[Row] = []

    def consume() -> None:
        while len(taken) < total:
            taken.extend(made.take())

    def produce(mine: list[Row]) -> None:
        for row in mine:
            made.put(row)

    threads = [threading.Thread(target=consume), *(threading.Thread(target=produce, args=(mine,)) for mine in sent)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert Counter(taken) == Counter(row for mine in sent for row in mine)


def test_close_wakes_who_waits_and_ends_it_for_good() -> None:
    made: Scheduler[Row] = Scheduler(max_batch_rows=1)
    taken: SimpleQueue[Sequence[Row]] = SimpleQueue()
    thread = threading.Thread(target=lambda: taken.put(made.take()))
    thread.start()
    made.close()
    assert taken.get(timeout=30) == []
    thread.join()
    made.put(Row(number=1, group="a"))
    assert made.take() == []


# Rows that are two of the device's


def pairs(count: int) -> list[Row]:
    return [Row(number=number, group="a", rows=2) for number in range(count)]


def test_a_batch_is_full_when_the_device_has_its_rows() -> None:
    batches = take_all(scheduler(*pairs(5), max_batch_rows=4))
    assert [[row.number for row in batch] for batch in batches] == [[0, 1], [2, 3], [4]]
    mixed = [replace(row, rows=1 + row.number % 2) for row in pairs(8)]
    assert all(sum(row.rows for row in batch) <= 4 for batch in take_all(scheduler(*mixed, max_batch_rows=4)))


def test_a_pair_is_computed_where_a_batch_may_have_one_row() -> None:
    assert [len(batch) for batch in take_all(scheduler(*pairs(3), max_batch_rows=1))] == [1, 1, 1]


def test_what_did_not_fit_is_counted_in_rows_of_the_device() -> None:
    made = scheduler(*pairs(8), max_batch_rows=16)
    with made._changed:
        batch = made._next_batch()
    assert len(batch) == 8
    made.too_large(batch)
    for row in pairs(8):
        made.put(row)
    assert [len(each) for each in take_all(made)] == [4, 4]


def test_rows_that_nobody_waits_for_are_not_counted_any_more() -> None:
    made = scheduler(*[replace(row, abandoned=row.number > 0) for row in pairs(3)])
    made.drop_abandoned()
    (group,) = made._groups.values()
    assert (len(group), group.rows) == (1, 2)
