from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tests.faults.figure import check
from tests.faults.log_sinks import served_with


def test_l17_a_log_that_cannot_be_written() -> None:
    """All at once: times are not compared here."""
    with ThreadPoolExecutor() as threads:
        sinks = ("nothing", "full disk", "full pipe")
        for figures, _ in threads.map(partial(served_with, seconds=1.0, slack=5.0), sinks):
            check(figures)
