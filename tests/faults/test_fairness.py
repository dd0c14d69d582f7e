from __future__ import annotations

from tests.faults.fairness import key_floods
from tests.faults.figure import check


def test_g7_a_key_that_floods_is_refused_and_another_one_is_answered() -> None:
    check(key_floods(seconds=2))
