"""Rows drawn again, and rows in another order: how sure a figure is, and what chance gives.

Shapes: N rows, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

RESAMPLES = 1000
PERMUTATIONS = 20

_AT_ONCE = 1_000_000  # numbers of a part: bounds its memory


def multiplicities(rows: int, resamples: int, seed: int) -> Iterator[npt.NDArray[np.float64]]:
    """How often each row was drawn, ``(R, N)``, part by part: a bootstrap of anything that is a sum over rows."""
    generator = np.random.default_rng(seed)
    at_once = max(1, _AT_ONCE // rows)
    for start in range(0, resamples, at_once):
        part = min(at_once, resamples - start)
        drawn_RN = generator.integers(rows, size=(part, rows)) + np.arange(part)[:, None] * rows
        yield np.bincount(drawn_RN.ravel(), minlength=part * rows).reshape(part, rows).astype(np.float64)


def permuted(rows: int, seed: int) -> Iterator[npt.NDArray[np.intp]]:
    """Orders of the rows, one after the other, without end."""
    generator = np.random.default_rng(seed)
    while True:
        yield generator.permutation(rows)
