"""A number a row: ridge regression on whitened features.

Candidates are compared by the mean squared error of their out-of-fold values. The interval around a value is conformal: as
wide as the residuals of rows that were held out (Vovk et al. 2005; with cross-validation, Barber et al. 2021, "Predictive
inference with the jackknife+").

Shapes: N rows, H held-out rows, D feature dimensions, K whitened dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from finetune.evaluations.regression import spearman
from finetune.probes.folds import fitting_threads, held_out, in_folds
from finetune.probes.probe import Candidate, Probe, Progress, head_of
from finetune.probes.search import Place, lowest, walk
from finetune.whitening import ClassCovariance, Floats
from models.manifest import Calibration, Setting

COVERAGE = 0.9


def fit_regression(
    features_ND: npt.NDArray[np.float32],
    values_N: npt.NDArray[np.float64],
    fold_N: npt.NDArray[np.int64],
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Probe:
    """Chooses the settings by cross-validation, then fits the head on all rows.

    Args:
        features_ND: of the training pool.
        values_N: what is to be predicted.
        fold_N: which fold each row is held out in.
        threads, progress: as in `finetune.probes.single_label.fit_single_label`.
    """
    with fitting_threads(threads) as pool:
        ridges = in_folds(pool, fold_N, lambda fold: Ridge(features_ND[fold_N != fold], values_N[fold_N != fold]))
        values_H = values_N[held_out(fold_N)]

        def judge(place: Place) -> Candidate:
            def held_out_values(fold: int) -> Floats:
                weight_D, bias = ridges[fold].fit(place)
                found_H: Floats = features_ND[fold_N == fold] @ weight_D + bias
                return found_H

            return candidate(place.settings, np.concatenate(in_folds(pool, fold_N, held_out_values)), values_H)

        tried = walk(judge, progress)
        place = lowest(tried)
        weight_D, bias = Ridge(features_ND.astype(np.float64), values_N).fit(place)
    return Probe(
        head=head_of(weight_D[None], np.array([bias]), "identity"),
        chosen=tried[place],
        folds=int(fold_N.max()) + 1,
        candidates=tuple(tried.values()),
        converged=True,
    )


def candidate(settings: Mapping[str, Setting], found_H: Floats, values_H: Floats) -> Candidate:
    """What rows that a head was not fitted on say of it: interval, rank correlation and mean squared error."""
    residuals_H = np.abs(values_H - found_H)
    return Candidate(
        settings=settings,
        calibration=Calibration(interval=conformal(residuals_H)),
        score=spearman(found_H, values_H),
        loss=float(np.square(residuals_H).mean(dtype=np.float64)),
    )


def conformal(residuals_H: Floats, coverage: float = COVERAGE) -> float:
    """The residual that a new row exceeds with a probability of ``1 - coverage`` at most, if it is like these rows.

    Of too few rows for that, the largest.
    """
    rank = min(math.ceil((len(residuals_H) + 1) * coverage), len(residuals_H))
    return float(np.sort(residuals_H)[rank - 1])


class Ridge:
    """Least squares with an L2 penalty, for any setting of the same rows.

    Values are brought to unit variance first, so that C means the same whatever their unit.
    """

    def __init__(self, features_ND: Floats, values_N: Floats) -> None:
        self._covariance = ClassCovariance.around(features_ND, values_N[:, None])
        self._mean, self._deviation = float(values_N.mean()), float(values_N.std()) or 1.0
        rows_NK = (features_ND - self._covariance.mean_D) @ self._covariance.directions_DK
        rows_NK = rows_NK.astype(np.float64)
        wanted_N = (values_N - self._mean) / self._deviation
        self._gram_KK, self._moment_K = rows_NK.T @ rows_NK, rows_NK.T @ wanted_N

    def fit(self, place: Place) -> tuple[Floats, float]:
        """Weights ``(D,)`` of the features as they are, and the bias."""
        length_K = self._covariance.lengths(place.shrinkage)
        penalty_KK = np.diag(np.square(length_K) / place.c)
        weight_K = np.linalg.solve(self._gram_KK + penalty_KK, self._moment_K)
        weight_D = self._covariance.directions_DK @ weight_K * self._deviation
        return weight_D, self._mean - float(weight_D @ self._covariance.mean_D)
