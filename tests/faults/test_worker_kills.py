from __future__ import annotations

from tests.faults.figure import check
from tests.faults.worker_kills import kill_one_of_two, kill_the_only_worker

SLACK = 5.0  # the machine that runs tests does other work too


def test_g1_one_of_two_workers_is_killed_again_and_again() -> None:
    check(kill_one_of_two(kills=2, every=1.0, peak_seconds=1.5, slack=SLACK, p99_bar=None))


def test_g2_the_only_worker_is_killed_again_and_again() -> None:
    check(kill_the_only_worker(kills=2, every=1.0, slack=SLACK))
