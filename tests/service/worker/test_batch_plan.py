from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from models.batch_cost import BatchCost
from service.worker.batch_plan import BatchPlan

CPU = BatchCost(per_batch=2e-3, per_row=0.0, per_token=2e-4)  # a batch is worth ten tokens
GPU = BatchCost(per_batch=3e-3, per_row=0.0, per_token=1e-6)
IMAGES = BatchCost(per_batch=2e-3, per_row=4e-3)


def choose(
    lengths: list[int], lead: int, cost: BatchCost, *, most_rows: int = 32, most_tokens: float = math.inf
) -> list[int]:
    chosen = BatchPlan(cost, 32).choose(lengths, [1] * len(lengths), lead, most_rows=most_rows, most_tokens=most_tokens)
    return lengths[chosen]


@given(
    st.lists(st.tuples(st.integers(1, 256), st.integers(1, 2)), min_size=1, max_size=80).map(sorted),
    st.data(),
    st.sampled_from([CPU, GPU, IMAGES]),
    st.integers(1, 32),
    st.integers(1, 2000),
)
def test_a_batch_holds_the_lead_and_keeps_every_limit(
    entries: list[tuple[int, int]], data: st.DataObject, cost: BatchCost, most_rows: int, most_tokens: int
) -> None:
    lengths, rows = [length for length, _ in entries], [count for _, count in entries]
    lead = data.draw(st.integers(0, len(lengths) - 1))
    chosen = BatchPlan(cost, 32).choose(lengths, rows, lead, most_rows=most_rows, most_tokens=most_tokens)
    assert chosen.start <= lead < chosen.stop
    count, padded = sum(rows[chosen]), lengths[chosen.stop - 1]
    if chosen.stop - chosen.start > 1:
        assert count <= min(most_rows, cost.rows_worth(padded, 32))
        assert count * padded <= most_tokens


def test_a_text_is_not_padded_where_a_batch_of_its_own_is_cheaper() -> None:
    assert choose([6, 8, 40, 44, 200], 2, CPU) == [40, 44]
    assert choose([6, 8, 40, 44, 200], 0, CPU) == [6, 8]
    assert choose([6, 8, 40, 44, 200], 4, CPU) == [200]
    assert choose([6, 8, 40, 44, 200], 0, GPU) == [6, 8, 40, 44, 200]


def test_images_are_put_together_as_long_as_it_is_worth_it() -> None:
    assert len(choose([1] * 32, 0, IMAGES)) == IMAGES.rows_worth(1, 32) < 16


def test_a_pair_counts_as_the_two_rows_that_it_is() -> None:
    worth = IMAGES.rows_worth(1, 32)
    chosen = BatchPlan(IMAGES, 32).choose([1] * 32, [2] * 32, 0, most_rows=32, most_tokens=math.inf)
    assert chosen.stop - chosen.start == worth // 2


def test_a_pair_is_taken_alone_where_there_is_no_room_for_two_rows() -> None:
    plan = BatchPlan(IMAGES, 1)
    assert plan.choose([1, 1], [2, 1], 0, most_rows=1, most_tokens=1) == slice(0, 1)
