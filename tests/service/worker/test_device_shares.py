"""The device has room for some batches at a time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from queue import SimpleQueue

from service.worker.scheduler import Scheduler
from tests.processes import wait_for
from tests.service.worker.scheduled_rows import Row, scheduler


def halves(count: int, *, group: str = "a") -> list[Row]:
    return [Row(number=number, group=group, share=0.5) for number in range(count)]


def taken_by(made: Scheduler[Row], threads: int) -> tuple[list[threading.Thread], SimpleQueue[Sequence[Row]]]:
    """Threads that take a batch each, and do not say that they are done with it."""
    taken: SimpleQueue[Sequence[Row]] = SimpleQueue()
    started = [threading.Thread(target=lambda: taken.put(made.take()), daemon=True) for _ in range(threads)]
    for thread in started:
        thread.start()
    return started, taken


def test_as_many_batches_are_taken_as_the_device_has_room_for() -> None:
    made = scheduler(*halves(3), max_batch_rows=1)
    first, second = made.take(), made.take()
    _, taken = taken_by(made, 1)
    wait_for(lambda: made._idle == 1, 30)
    made.done(second)
    (third,) = taken.get(timeout=30)
    assert [first[0].number, second[0].number, third.number] == [0, 1, 2]


def test_what_waits_is_parted_among_those_who_are_idle() -> None:
    made: Scheduler[Row] = Scheduler(max_batch_rows=32)
    _, taken = taken_by(made, 2)
    wait_for(lambda: made._idle == 2, 30)
    with made._changed:  # all at once: a row alone would be taken at once
        for row in halves(8):
            made.put(row)
    assert sorted(len(taken.get(timeout=30)) for _ in range(2)) == [4, 4]


def test_where_only_one_batch_fits_it_is_not_parted() -> None:
    made: Scheduler[Row] = Scheduler(max_batch_rows=32)
    _, taken = taken_by(made, 2)
    wait_for(lambda: made._idle == 2, 30)
    with made._changed:
        for number in range(8):
            made.put(Row(number=number, group="a", share=1.0))
    assert len(taken.get(timeout=30)) == 8
    made.close()
    assert taken.get(timeout=30) == []


def test_a_batch_that_needs_the_whole_device_waits_for_it_and_is_not_passed() -> None:
    whole = Row(number=7, group="whole", share=1.0)
    made = scheduler(*halves(1), whole, *halves(2), max_batch_rows=1)
    first = made.take()
    _, taken = taken_by(made, 1)
    wait_for(lambda: made._idle == 1, 30)  # though there is room for another half
    made.done(first)
    batch = taken.get(timeout=30)
    assert batch == [whole]
    _, taken = taken_by(made, 1)
    wait_for(lambda: made._idle == 1, 30)
    made.done(batch)
    assert taken.get(timeout=30)[0].group == "a"
