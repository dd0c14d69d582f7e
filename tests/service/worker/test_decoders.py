from __future__ import annotations

import threading
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from service.worker.decoders import MOST_AT_ONCE, Decoders
from tests.processes import wait_for

SECONDS = 30.0


class Preparation:
    """Notes which thread prepared what.

    Attributes:
        gate: closed, it holds every thread that has begun with an item.
    """

    def __init__(self) -> None:
        self.begun: list[tuple[int, int]] = []
        self.prepared: list[tuple[int, int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, thread: int, item: int) -> None:
        self.begun.append((thread, item))
        assert self.gate.wait(SECONDS)
        self.prepared.append((thread, item))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(), max_size=20), max_size=20), st.integers(1, 4))
def test_every_item_is_prepared_once_by_a_thread_of_the_pool(puts: list[list[int]], threads: int) -> None:
    prepare = Preparation()
    decoders = Decoders(threads, prepare)
    for items in puts:
        decoders.put(items)
    wanted = [item for items in puts for item in items]
    wait_for(lambda: len(prepare.prepared) >= len(wanted), SECONDS)
    decoders.close()
    assert Counter(item for _, item in prepare.prepared) == Counter(wanted)
    assert {thread for thread, _ in prepare.prepared} <= set(range(threads))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(st.integers(), min_size=1), min_size=1, max_size=4))
def test_items_put_by_several_threads_are_not_lost(puts: list[list[int]]) -> None:
    prepare = Preparation()
    decoders = Decoders(2, prepare)
    putting = [threading.Thread(target=decoders.put, args=([item],)) for items in puts for item in items]
    for thread in putting:
        thread.start()
    for thread in putting:
        thread.join(SECONDS)
    wait_for(lambda: len(prepare.prepared) == len(putting), SECONDS)
    decoders.close()


def test_one_thread_keeps_the_order() -> None:
    prepare = Preparation()
    decoders = Decoders(1, prepare)
    decoders.put(range(100))
    wait_for(lambda: len(prepare.prepared) == 100, SECONDS)
    decoders.close()
    assert [item for _, item in prepare.prepared] == list(range(100))


def test_what_waits_is_shared_between_the_threads() -> None:
    """No thread takes more than its share: all of them begin, though the first could have had everything."""
    prepare = Preparation()
    prepare.gate.clear()
    decoders = Decoders(3, prepare)
    decoders.put(range(3))
    wait_for(lambda: len(prepare.begun) == 3, SECONDS)
    assert {thread for thread, _ in prepare.begun} == {0, 1, 2}
    prepare.gate.set()
    decoders.close()


def test_a_thread_takes_few_at_once_so_that_another_can_help() -> None:
    prepare = Preparation()
    slow, released = threading.Event(), threading.Event()

    def first_is_slow(thread: int, item: int) -> None:
        if item == 0:
            slow.set()
            assert released.wait(SECONDS)
        prepare(thread, item)

    decoders = Decoders(2, first_is_slow)
    decoders.put(range(100))
    assert slow.wait(SECONDS)
    wait_for(lambda: len(prepare.prepared) >= 100 - MOST_AT_ONCE, SECONDS)
    assert {item for _, item in prepare.prepared} >= set(range(MOST_AT_ONCE, 100))
    released.set()
    wait_for(lambda: len(prepare.prepared) == 100, SECONDS)
    decoders.close()


def test_close_waits_for_what_is_in_hand_and_forgets_the_rest() -> None:
    prepare = Preparation()
    prepare.gate.clear()
    decoders = Decoders(1, prepare)
    decoders.put([1])
    wait_for(lambda: prepare.begun, SECONDS)
    decoders.put(range(2, 100))
    closing = threading.Thread(target=decoders.close)
    closing.start()
    wait_for(lambda: decoders._closed, SECONDS)
    prepare.gate.set()
    closing.join(SECONDS)
    assert not closing.is_alive()
    assert prepare.prepared == [(0, 1)]


def test_close_ends_threads_that_wait() -> None:
    decoders = Decoders(4, Preparation())
    decoders.close()
    assert not any(thread.is_alive() for thread in decoders._threads)


def test_what_is_not_wanted_any_more_is_forgotten_at_once() -> None:
    prepare = Preparation()
    prepare.gate.clear()
    decoders = Decoders(1, prepare)
    decoders.put([0])
    wait_for(lambda: prepare.begun, SECONDS)
    decoders.put(range(1, 7))
    assert decoders.discard(lambda item: item % 2 == 1) == 3
    prepare.gate.set()
    wait_for(lambda: len(prepare.prepared) == 4, SECONDS)
    assert [item for _, item in prepare.prepared] == [0, 2, 4, 6]
    decoders.close()


def test_while_paused_nothing_is_in_hand_and_nothing_is_lost() -> None:
    prepare = Preparation()
    decoders = Decoders(3, prepare)
    for number in range(50):
        decoders.put([number, number])
        with decoders.paused():
            assert len(prepare.prepared) == len(prepare.begun)
            before = len(prepare.begun)
            decoders.put([number])
            assert len(prepare.begun) == before
    wait_for(lambda: len(prepare.prepared) == 150, SECONDS)
    decoders.close()


def test_a_pause_waits_for_what_the_threads_have_taken() -> None:
    prepare = Preparation()
    prepare.gate.clear()
    decoders = Decoders(2, prepare)
    decoders.put(range(2))
    wait_for(lambda: len(prepare.begun) == 2, SECONDS)
    paused, resume = threading.Event(), threading.Event()

    def pause() -> None:
        with decoders.paused():
            paused.set()
            assert resume.wait(SECONDS)

    pausing = threading.Thread(target=pause)
    pausing.start()
    decoders.put(range(2, 5))
    wait_for(lambda: decoders._paused, SECONDS)
    assert not paused.is_set()
    prepare.gate.set()
    assert paused.wait(SECONDS)
    assert {item for _, item in prepare.prepared} == {0, 1}
    resume.set()
    wait_for(lambda: len(prepare.prepared) == 5, SECONDS)
    pausing.join(SECONDS)
    decoders.close()
