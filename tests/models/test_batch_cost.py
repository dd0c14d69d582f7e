from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.batch_cost import UNMEASURED, WORTH, BatchCost

coefficients = st.floats(0.0, 1.0)
costs = st.builds(
    BatchCost, per_batch=coefficients, per_row=st.floats(1e-3, 1.0), per_token=coefficients, per_pair=coefficients
)


@given(costs, st.integers(1, 64), st.integers(1, 512))
def test_a_larger_batch_does_not_take_less(cost: BatchCost, rows: int, length: int) -> None:
    assert cost.seconds(rows, length) <= cost.seconds(rows + 1, length)
    assert cost.seconds(rows, length) <= cost.seconds(rows, length + 1)


@given(costs, st.integers(1, 512), st.integers(1, 64))
def test_a_batch_worth_making_is_the_smallest_of_about_the_best_rate(cost: BatchCost, length: int, most: int) -> None:
    worth = cost.rows_worth(length, most)
    rates = [rows / cost.seconds(rows, length) for rows in range(1, most + 1)]
    assert rates[worth - 1] >= 0.999 * WORTH * max(rates)
    assert all(rate <= 1.001 * WORTH * max(rates) for rate in rates[: worth - 1])


def test_what_is_worth_a_batch() -> None:
    assert BatchCost(per_batch=0.0, per_row=1.0).rows_worth(1, 32) == 1
    assert BatchCost(per_batch=1.0, per_row=0.0).rows_worth(1, 32) == 31
    texts = BatchCost(per_batch=1e-3, per_row=0.0, per_token=1e-4)
    assert [texts.rows_worth(length, 32) for length in (4, 16, 64, 256)] == sorted(
        (texts.rows_worth(length, 32) for length in (4, 16, 64, 256)), reverse=True
    )
    assert texts.seconds(2, 30) == pytest.approx(7e-3)


def test_an_engine_that_was_not_measured_gets_large_batches_of_short_rows() -> None:
    assert UNMEASURED.rows_worth(1, 32) >= 30
