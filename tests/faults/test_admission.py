from __future__ import annotations

from tests.faults.admission import bytes_in_flight, large_and_tiny, retry_after
from tests.faults.figure import check


def test_o01_retry_after_is_when_there_is_room_again() -> None:
    check(retry_after())


def test_o06_large_requests_beside_tiny_ones() -> None:
    check(large_and_tiny(seconds=1))


def test_o01_bodies_are_counted_as_they_arrive() -> None:
    check(bytes_in_flight())
