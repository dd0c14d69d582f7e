from __future__ import annotations

from tests.faults.deadlines import deadline_of_a_body, short_deadlines
from tests.faults.figure import check


def test_o05_g16_deadlines_shorter_than_the_queue() -> None:
    check(short_deadlines())


def test_g16_a_body_that_comes_after_its_deadline() -> None:
    check(deadline_of_a_body())
