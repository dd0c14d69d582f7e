"""Batches out of rows that wait."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from queue import SimpleQueue

from hypothesis import given, settings
from hypothesis import strategies as st

from service.worker.scheduler import Scheduler
from tests.service.worker.scheduled_rows import FLAT, LINEAR, Caller, Row, RowOf, rows, scheduler, take_all

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


def test_texts_of_unlike_lengths_share_a_batch_only_where_padding_is_cheaper_than_a_batch() -> None:
    for cost, wanted in [(FLAT, [[9, 40, 9, 10, 39]]), (LINEAR, [[9, 9, 10], [40, 39]])]:
        texts = [Row(number=n, group="g", length=length, cost=cost) for n, length in enumerate([9, 40, 9, 10, 39])]
        assert [[row.length for row in batch] for batch in take_all(scheduler(*texts))] == wanted


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
