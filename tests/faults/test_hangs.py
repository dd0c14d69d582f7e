from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.faults.figure import check
from tests.faults.hangs import endless_row, stopped_worker

SLACK = 3.0  # the machine that runs tests does other work too


def test_l04_workers_that_hang() -> None:
    """Both ways at once: most of it is waiting."""
    with ThreadPoolExecutor() as threads:
        for figures in threads.map(lambda scenario: scenario(hangs=1, slack=SLACK), (stopped_worker, endless_row)):
            check(figures)
