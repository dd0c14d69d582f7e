"""A check that can fail."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch

from models.batch import Row
from models.errors import ExportFailed
from service.export.comparison import TOLERANCE, Comparison, check, compare

ROWS: Sequence[Sequence[Row]] = [[], []]


def compared(name: str, wanted: torch.Tensor, found: torch.Tensor) -> Comparison:
    (comparison,) = compare(ROWS, lambda rows: {name: wanted}, lambda rows: {name: found})
    return comparison


def test_probabilities_are_compared_by_one_and_others_by_their_largest_value() -> None:
    wanted = torch.tensor([[0.01, 0.02]])
    probabilities = compared("probabilities", wanted, wanted + 5e-5)
    assert probabilities.holds
    assert probabilities.tolerance == TOLERANCE
    assert probabilities.difference == pytest.approx(5e-5, rel=1e-3)
    assert probabilities.vectors == 2  # one in each batch
    logits = compared("logits", wanted, wanted + 5e-5)
    assert logits.tolerance == pytest.approx(TOLERANCE * 0.02)
    assert not logits.holds
    assert compared("logits", 1000 * wanted, 1000 * wanted + 5e-4).holds


@pytest.mark.parametrize("wrong", [0.2, math.nan, math.inf])
def test_one_wrong_number_anywhere_is_found(wrong: float) -> None:
    wanted = torch.ones(3, 4)
    found = wanted.clone()
    found[2, 3] = wrong
    comparison = compared("embedding", wanted, found)
    assert not comparison.holds
    with pytest.raises(ExportFailed, match=r"embedding of the export differs by .* nothing was written"):
        check([comparison])
    check([compared("embedding", wanted, wanted)])


def test_a_nan_that_one_batch_has_is_not_hidden_by_another() -> None:
    answers = iter([torch.tensor([[math.nan]]), torch.tensor([[1.0]])])
    (comparison,) = compare(ROWS, lambda rows: {"score": torch.ones(1, 1)}, lambda rows: {"score": next(answers)})
    assert not comparison.holds


def test_a_missing_output_or_another_shape_is_refused() -> None:
    with pytest.raises(ExportFailed, match="the export has logits, and score was asked for"):
        compare(ROWS, lambda rows: {"score": torch.ones(1)}, lambda rows: {"logits": torch.ones(1)})
    with pytest.raises(ExportFailed, match=r"has shape \(1, 2\), not \(2, 2\)"):
        compared("logits", torch.ones(2, 2), torch.ones(1, 2))


def test_a_text_without_words_has_nothing_to_compare() -> None:
    def answers(sizes: Sequence[int]) -> Callable[[Sequence[Row]], dict[str, torch.Tensor]]:
        left = iter(sizes)
        return lambda rows: {"probabilities": torch.ones(next(left), 3)}

    (comparison,) = compare(ROWS, answers([0, 2]), answers([0, 2]))
    assert comparison.vectors == 2
    with pytest.raises(ExportFailed, match="no golden input"):
        compare(ROWS, answers([0, 0]), answers([0, 0]))
