from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.auth.rate_limit import RateLimit


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_second_s_worth_may_come_at_once_and_then_an_even_stream() -> None:
    clock = Clock()
    limit = RateLimit(5, clock)
    assert [limit.take() for _ in range(5)] == [0] * 5
    assert limit.take() == pytest.approx(0.2)
    clock.now += 0.19
    assert limit.take() == pytest.approx(0.01)
    clock.now += 0.0101
    assert limit.take() == 0
    assert limit.take() > 0
    clock.now += 3600  # who was silent for long has no more than that second's worth
    assert [limit.take() > 0 for _ in range(6)] == [False] * 5 + [True]


def test_one_request_fits_into_the_slowest_rate() -> None:
    clock = Clock()
    limit = RateLimit(0.1, clock)
    assert limit.take() == 0
    assert limit.take() == pytest.approx(10)
    clock.now += 10.001
    assert limit.take() == 0


@given(
    rate=st.floats(0.001, 1e6),
    pauses=st.lists(st.floats(0, 100), min_size=1, max_size=200),
)
def test_no_more_are_let_pass_than_the_rate_allows(rate: float, pauses: list[float]) -> None:
    clock = Clock()
    limit = RateLimit(rate, clock)
    start, passed = clock.now, 0
    for pause in pauses:
        clock.now += pause
        wait = limit.take()
        passed += wait == 0
        assert 0 <= wait <= 1 / rate * 1.001
    assert passed <= max(1.0, rate) + rate * (clock.now - start) * 1.001 + 0.001


def test_a_refused_request_costs_nothing() -> None:
    clock = Clock()
    limit = RateLimit(1, clock)
    limit.take()
    waits = [limit.take() for _ in range(1000)]
    assert set(waits) == {1.0}
