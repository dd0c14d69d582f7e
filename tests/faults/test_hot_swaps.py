from __future__ import annotations

from tests.faults.figure import check
from tests.faults.hot_swaps import churn, hot_swaps

SLACK = 10.0  # the machine that runs tests does other work too


def test_g4_l10_l11_the_champion_is_swapped_under_load() -> None:
    check(hot_swaps(swaps=20, peak_seconds=1.5, slack=SLACK))


def test_g5_a_version_is_loaded_and_unloaded_by_several_at_once() -> None:
    check(churn(clients=4, changes=64))
