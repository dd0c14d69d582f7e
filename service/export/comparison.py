"""Whether what was exported answers as the version does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from models.batch import Row
from models.errors import ExportFailed

Answering: TypeAlias = Callable[[Sequence[Row]], Mapping[str, torch.Tensor]]
"""What a side makes of a batch, by output: ``(V, *)``, a row for each vector that heads read."""

# Float32 has seven digits. Another library adds up the same products in another order, which takes one or two of them in a deep
# network; a wrong weight, mean, temperature or transposition is off by far more.
TOLERANCE = 1e-4
_OF_ONE = frozenset({"probabilities"})  # whose scale is known; of the others it is the largest value that was expected


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One output over all batches.

    Attributes:
        largest: the largest absolute value that was expected.
        difference: the largest absolute difference from what was expected; NaN where there is no number.
        tolerance: that it must not exceed, in the same unit.
        vectors: how many were compared.
    """

    output: str
    largest: float
    difference: float
    tolerance: float
    vectors: int

    @property
    def holds(self) -> bool:
        """Also False where the difference is no number."""
        return self.difference <= self.tolerance


def compare(
    batches: Sequence[Sequence[Row]],
    expected: Answering,
    found: Answering,
) -> Sequence[Comparison]:
    """Compares two sides on the same batches, output by output.

    Args:
        expected, found: the sides.

    Raises:
        ExportFailed: an output is missing or has another shape, or there is nothing to compare.
    """
    pairs: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    for rows in batches:
        wanted, got = expected(rows), found(rows)
        if wanted.keys() != got.keys():
            raise ExportFailed(f"the export has {', '.join(got)}, and {', '.join(wanted)} was asked for")
        for name, values in wanted.items():
            if got[name].shape != values.shape:
                shapes = f"{tuple(got[name].shape)}, not {tuple(values.shape)}"
                raise ExportFailed(
                    f"{name} of the export has shape {shapes}: this architecture has no graph for all sizes"
                )
            if len(values):  # of a text without words there is nothing
                pairs.setdefault(name, []).append((values.double(), got[name].double()))
    if not pairs:
        raise ExportFailed("no golden input has a vector to compare; publish the model again with other examples")
    return [_comparison(name, each) for name, each in pairs.items()]


def _comparison(name: str, pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> Comparison:
    largest = max(float(wanted.abs().max()) for wanted, _ in pairs)
    off = torch.stack([(found - wanted).abs().max() for wanted, found in pairs])
    return Comparison(
        output=name,
        largest=largest,
        difference=float(off.max()),  # NaN where one of them is
        tolerance=TOLERANCE * (1.0 if name in _OF_ONE else largest),
        vectors=sum(len(wanted) for wanted, _ in pairs),
    )


def check(comparisons: Sequence[Comparison]) -> None:
    """Raises `ExportFailed` unless all of them hold."""
    for each in comparisons:
        if not each.holds:
            raise ExportFailed(
                f"{each.output} of the export differs by {each.difference:.2g} from what the version answers, and "
                f"{each.tolerance:.2g} is tolerated; nothing was written"
            )
