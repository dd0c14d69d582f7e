"""Which vectors of a batch are whose."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from models.batch import ImageRow, PairRow, Row, TextBatch, TextRow, Words, collate
from models.features import FeatureKind, Features
from models.head_inputs import combine_pairs, head_inputs


def text(number: int, words: Words | None = None) -> TextRow:
    """A text whose features are its number, and its square."""
    return TextRow(ids=[number] * (number + 1), segments=[0] * (number + 1), words=words)


def features_of(rows: list[Row], kind: FeatureKind = FeatureKind.POOLED) -> Features:
    """A vector for each row of the batch; for tokens the number and the place."""
    batch = collate(rows)
    assert isinstance(batch, TextBatch)
    numbers_BT = batch.ids_BT.float()
    if kind is FeatureKind.POOLED:
        return Features(kind=kind, values=torch.stack([numbers_BT[:, 0], numbers_BT[:, 0] ** 2], dim=1))
    places_BT = torch.arange(numbers_BT.shape[1]).expand_as(numbers_BT).float()
    return Features(kind=kind, values=torch.stack([numbers_BT, places_BT], dim=2), mask_BT=batch.mask_BT)


def test_single_rows_are_read_as_they_lie() -> None:
    features = features_of([text(3), text(1)])
    (inputs,) = head_inputs(features, [text(3), text(1)])
    assert inputs.vectors_VD is features.values  # not copied
    assert list(inputs.owners) == [0, 1]
    image = ImageRow(pixels_CHW=torch.zeros(3, 2, 2, dtype=torch.uint8))
    (inputs,) = head_inputs(Features(kind=FeatureKind.POOLED, values=torch.zeros(1, 5)), [image])
    assert (inputs.vectors_VD.shape, list(inputs.owners)) == ((1, 5), [0])


def test_a_pair_is_both_texts_their_distance_and_their_product() -> None:
    found = combine_pairs(torch.tensor([[1.0, -2.0]]), torch.tensor([[3.0, 5.0]]))
    assert found.tolist() == [[1, -2, 3, 5, 2, 7, 3, -10]]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9) | st.none()), min_size=1, max_size=12))
def test_pairs_and_single_texts_share_a_batch(numbers: list[tuple[int, int | None]]) -> None:
    rows: list[Row] = [
        text(first) if second is None else PairRow(first=text(first), second=text(second)) for first, second in numbers
    ]
    found: dict[int, list[float]] = {}
    for inputs in head_inputs(features_of(rows), rows):
        found.update(zip(inputs.owners, inputs.vectors_VD.tolist(), strict=True))
    for index, (u, v) in enumerate(numbers):
        alone = [float(u), float(u * u)]
        if v is not None:
            alone += [v, v * v, abs(u - v), abs(u * u - v * v), u * v, u * u * v * v]
        assert found.pop(index) == alone
    assert not found


def test_each_word_has_the_features_of_its_token() -> None:
    def words(*tokens: int) -> Words:
        return Words(text="", spans=[(0, 0)] * len(tokens), tokens=tokens)

    rows: list[Row] = [text(3, words(1, -1, 3)), text(7, words()), text(5, words(-1, 4))]
    (inputs,) = head_inputs(features_of(rows, FeatureKind.TOKENS), rows)
    assert inputs.vectors_VD.tolist() == [[3, 1], [3, 3], [5, 4]]
    assert list(inputs.owners) == [0, 0, 2]
    (nothing,) = head_inputs(features_of(rows[1:2], FeatureKind.TOKENS), rows[1:2])
    assert (nothing.vectors_VD.shape, list(nothing.owners)) == ((0, 2), [])
