from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.training.schedule import learning_rate_share


@given(st.integers(1, 500), st.floats(0, 0.99))
def test_it_rises_to_one_then_falls_and_no_step_is_wasted(steps: int, warmup: float) -> None:
    shares = [learning_rate_share(step, steps=steps, warmup=warmup) for step in range(steps)]
    assert all(0 < share <= 1 for share in shares)
    top = shares.index(max(shares))
    assert shares[: top + 1] == sorted(shares[: top + 1])
    assert shares[top:] == sorted(shares[top:], reverse=True)
    assert top <= round(warmup * steps)


def test_its_values() -> None:
    shares = [learning_rate_share(step, steps=10, warmup=0.2) for step in range(10)]
    assert shares[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert shares[6] == pytest.approx(0.5)
    assert shares[9] < 0.04
