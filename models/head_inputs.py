"""The vectors that heads read, taken from the features of a batch: one a row, one a pair of rows, or one a word.

Shapes: B rows of the engine's batch, U rows as they were asked for (a pair is one), V vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from models.batch import PairRow, Row, TextRow
from models.features import FeatureKind, Features


@dataclass(frozen=True, kw_only=True)
class HeadInputs:
    """Vectors of one width.

    Attributes:
        vectors_VD: fp32; those of a row lie one after the other.
        owners: for each vector the index of its row, ascending.
    """

    vectors_VD: torch.Tensor
    owners: Sequence[int]


def head_inputs(features: Features, rows: Sequence[Row]) -> Sequence[HeadInputs]:
    """What heads read of a batch.

    Args:
        features: of ``collate(rows)``.
        rows: of any models. Of pooled features, each row has one vector, and those of a `PairRow` are wider; of
            tokens, each word that has a token has one.

    Returns:
        A set for each width of vectors; only a batch with single texts and pairs has two.
    """
    if features.kind is FeatureKind.TOKENS:
        return [_of_words(features.values, rows)]
    if not any(isinstance(row, PairRow) for row in rows):
        return [HeadInputs(vectors_VD=features.values, owners=range(len(rows)))]
    return _of_pairs(features.values, rows)


def combine_pairs(first_VD: torch.Tensor, second_VD: torch.Tensor) -> torch.Tensor:
    """Pairs (u, v) as one vector each: [u, v, |u - v|, u * v], ``(V, 4 D)``.

    From Conneau et al. 2017, "Supervised learning of universal sentence representations", figure 1; Reimers and
    Gurevych 2019 leave out the product, which a linear head cannot make up for.
    """
    return torch.cat([first_VD, second_VD, (first_VD - second_VD).abs(), first_VD * second_VD], dim=1)


def _of_words(values_BTD: torch.Tensor, rows: Sequence[Row]) -> HeadInputs:
    owners: list[int] = []
    tokens: list[int] = []
    for index, row in enumerate(rows):
        assert isinstance(row, TextRow)
        assert row.words is not None
        own = [token for token in row.words.tokens if token >= 0]
        owners += [index] * len(own)
        tokens += own
    return HeadInputs(vectors_VD=values_BTD[torch.tensor(owners, dtype=torch.int64), tokens], owners=owners)


def _of_pairs(values_BD: torch.Tensor, rows: Sequence[Row]) -> Sequence[HeadInputs]:
    singles: list[int] = []
    pairs: list[int] = []
    of_singles: list[int] = []  # where their features are
    of_pairs: list[int] = []  # where those of the first text are; those of the second one follow
    place = 0
    for index, row in enumerate(rows):
        is_pair = isinstance(row, PairRow)
        (pairs if is_pair else singles).append(index)
        (of_pairs if is_pair else of_singles).append(place)
        place += 2 if is_pair else 1
    first_VD, second_VD = values_BD[of_pairs], values_BD[[place + 1 for place in of_pairs]]
    found = [HeadInputs(vectors_VD=combine_pairs(first_VD, second_VD), owners=pairs)]
    if singles:
        found.append(HeadInputs(vectors_VD=values_BD[of_singles], owners=singles))
    return found
