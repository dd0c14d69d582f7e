from __future__ import annotations

from tests.faults.crash_loop import worker_that_cannot_start
from tests.faults.figure import check


def test_l07_a_worker_that_cannot_start() -> None:
    check(worker_that_cannot_start(deaths=3, slack=5.0))
