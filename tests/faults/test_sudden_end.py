from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tests.faults.figure import check
from tests.faults.sudden_end import killed


def test_l05_a_process_is_killed_under_load() -> None:
    with ThreadPoolExecutor() as threads:
        for figures in threads.map(partial(killed, cycles=1, slack=5.0), ("API process", "parent")):
            check(figures)
