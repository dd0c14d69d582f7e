from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.faults.figure import check
from tests.faults.poison import poison, too_little_memory


def test_l03_poison_among_good_rows() -> None:
    """Two servers at once: most of it is waiting for workers."""
    with ThreadPoolExecutor() as threads:
        alone = threads.submit(poison, workers=1, rounds=1, kinds=["crash"])
        three = threads.submit(poison, workers=3, rounds=1, kinds=["segfault"])
        check(alone.result())
        check(three.result())


def test_l06_too_little_memory() -> None:
    check(too_little_memory(rounds=5))
