from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from finetune.training.order import RowOrder


@given(st.integers(1, 300), st.integers(1, 40), st.integers(0, 2**32 - 1), st.booleans())
def test_every_row_is_learnt_from_once_an_epoch(count: int, size: int, seed: int, has_lengths: bool) -> None:
    lengths = [(number * 7919) % 60 for number in range(count)] if has_lengths else None
    order = RowOrder(count, batch_size=size, seed=seed, lengths=lengths)
    for epoch in range(2):
        batches = order.epoch(epoch)
        assert len(batches) == order.batches
        assert all(1 <= len(batch) <= size for batch in batches)
        assert sorted(np.concatenate(batches).tolist()) == list(range(count))
        again = RowOrder(count, batch_size=size, seed=seed, lengths=lengths).epoch(epoch)
        assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


def test_epochs_and_seeds_differ() -> None:
    first, second = (np.concatenate(RowOrder(100, batch_size=8, seed=0).epoch(epoch)) for epoch in (0, 1))
    other = np.concatenate(RowOrder(100, batch_size=8, seed=1).epoch(0))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_texts_of_similar_length_share_a_batch() -> None:
    lengths = np.random.default_rng(0).integers(4, 64, 4000)

    def padded(order: RowOrder) -> int:
        return sum(int(lengths[batch].max()) * len(batch) for batch in order.epoch(0))

    mixed = padded(RowOrder(4000, batch_size=16, seed=0))
    by_length = padded(RowOrder(4000, batch_size=16, seed=0, lengths=lengths.tolist()))
    assert by_length < 1.1 * lengths.sum() < 0.65 * mixed
    starts = [
        int(lengths[batch].max()) for batch in RowOrder(4000, batch_size=16, seed=0, lengths=lengths.tolist()).epoch(0)
    ]
    assert starts != sorted(starts)  # not the short ones first
