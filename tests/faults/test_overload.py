from __future__ import annotations

from tests.faults.figure import check
from tests.faults.overload import excess, excess_of_the_api_process


def test_g6_five_times_the_capacity() -> None:
    check(excess(seconds=2, factors=[5]))


def test_g6_more_clients_than_the_api_process_can_answer() -> None:
    check(excess_of_the_api_process(seconds=1.5))
