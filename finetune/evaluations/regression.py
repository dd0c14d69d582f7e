"""What a model is worth that predicts a number.

Shapes: N rows, R resamples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from finetune.evaluations.class_scores import CONFIDENCE
from finetune.evaluations.evaluation import Measured
from finetune.intervals import bootstrap, percentile, wilson

Floats = npt.NDArray[np.float64]


def evaluate_regression(
    found_N: npt.NDArray[np.floating[Any]], wanted_N: npt.NDArray[np.floating[Any]], *, interval: float, seed: int
) -> Measured:
    """Scores values against the true ones.

    Args:
        found_N: predicted.
        wanted_N: true.
        interval: half the width of the interval around a prediction.
        seed: of the bootstrap.

    Raises:
        ValueError: no rows, or shapes that do not fit.
    """
    if found_N.shape != wanted_N.shape or found_N.ndim != 1 or not len(found_N):
        raise ValueError(f"values {found_N.shape} and true ones {wanted_N.shape} do not fit")
    found_N, wanted_N = found_N.astype(np.float64), wanted_N.astype(np.float64)
    rows = len(found_N)
    names = ("spearman", "pearson", "mae", "r2")

    def statistics(rows_RN: npt.NDArray[np.intp]) -> Floats:
        from scipy.stats import rankdata

        found_RN, wanted_RN = found_N[rows_RN], wanted_N[rows_RN]
        ranks = (rankdata(each_RN, axis=1) for each_RN in (found_RN, wanted_RN))
        error_RN = found_RN - wanted_RN
        variance_R = wanted_RN.var(axis=1)
        explained_R = 1 - np.square(error_RN).mean(axis=1) / np.where(variance_R > 0, variance_R, np.inf)
        return np.column_stack(
            [_correlation(*ranks), _correlation(found_RN, wanted_RN), np.abs(error_RN).mean(axis=1), explained_R]
        )

    estimates = statistics(np.arange(rows)[None])[0].tolist()
    resampled_RK = bootstrap(statistics, rows, seed=seed)
    covered = int((np.abs(found_N - wanted_N) <= interval).sum())
    values_N2 = np.column_stack([found_N, wanted_N])
    values_N2.setflags(write=False)
    return Measured(
        rows=rows,
        metrics={**dict(zip(names, estimates, strict=True)), "coverage": covered / rows},
        intervals={
            **{name: percentile(estimates[i], resampled_RK[:, i], CONFIDENCE) for i, name in enumerate(names)},
            "coverage": wilson(covered, rows, CONFIDENCE),
        },
        chance=0.0,
        values_N2=values_N2,
    )


def spearman(found_N: npt.NDArray[np.floating[Any]], wanted_N: npt.NDArray[np.floating[Any]]) -> float:
    """Correlation of ranks; 0 where one side is all the same."""
    from scipy.stats import rankdata

    return float(_correlation(rankdata(found_N)[None], rankdata(wanted_N)[None])[0])


def _correlation(one_RN: npt.NDArray[np.floating[Any]], other_RN: npt.NDArray[np.floating[Any]]) -> Floats:
    """Pearson's of each pair of rows; 0 where one of them is all the same."""
    one_RN, other_RN = (each - each.mean(axis=1, keepdims=True) for each in (one_RN, other_RN))
    covariance_R = (one_RN * other_RN).sum(axis=1)
    scale_R = np.sqrt(np.square(one_RN).sum(axis=1) * np.square(other_RN).sum(axis=1))
    correlation_R: Floats = np.where(scale_R > 0, covariance_R / np.where(scale_R > 0, scale_R, 1), 0.0)
    return correlation_R.clip(-1, 1)
