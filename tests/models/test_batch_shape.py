from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from models.batch_shape import STEPS, next_size

SIZES = st.integers(1, 10_000)


@given(SIZES)
def test_a_size_grows_by_a_quarter_at_most(size: int) -> None:
    found = next_size(size)
    assert size <= found <= max(size, size * (1 + 1 / STEPS))


@given(SIZES, SIZES)
def test_a_larger_one_never_becomes_smaller(size: int, other: int) -> None:
    assert next_size(min(size, other)) <= next_size(max(size, other))


@given(SIZES)
def test_what_is_a_size_stays(size: int) -> None:
    assert next_size(next_size(size)) == next_size(size)


@given(SIZES, SIZES)
def test_there_is_a_largest_one(size: int, most: int) -> None:
    found = next_size(min(size, most), most)
    assert min(size, most) <= found <= most


def test_there_are_few() -> None:
    assert sorted({next_size(size) for size in range(1, 33)}) == [*range(1, 9), 10, 12, 14, 16, 20, 24, 28, 32]
    assert len({next_size(size) for size in range(1, 513)}) == 32
