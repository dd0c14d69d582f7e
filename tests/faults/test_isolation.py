from __future__ import annotations

from tests.faults.figure import check
from tests.faults.isolation import batch_patterns, mixed_lists


def test_g14_all_patterns_of_harmful_rows_in_a_batch() -> None:
    check(batch_patterns())


def test_t10_lists_with_a_harmful_row() -> None:
    check(mixed_lists())
