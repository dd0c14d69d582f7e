"""The ``probe`` strategy: a linear head on frozen features, its settings chosen by cross-validation.

The head is multinomial logistic regression on whitened features. Two settings are searched:

- *shrinkage* of the covariance that features are whitened by (`finetune.whitening`); 1 is one common factor for all
  dimensions. Scaling each dimension to unit variance, the usual choice, is not searched: its cross-validated log loss
  was lower on none of six data sets, and far higher on one.
- *C*, the inverse of the L2 penalty on the summed loss. Whitened rows have a mean squared length of 1, which makes C the
  prior variance of a logit, whatever the backbone and the number of dimensions or rows. So what suits the folds suits
  the whole pool.

Candidates are compared by the log loss of their out-of-fold logits *after* temperature scaling, which is how a head is
published. Inside training data it chose better heads than accuracy, which is coarse, and than the plain log loss, which
mistakes weights that are too small for wrong ones.

Whitening is linear and ends up in the head's weights.

Shapes: N rows, H held-out rows, D feature dimensions, K whitened dimensions, C classes.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from finetune.calibration import fit_temperature, log_loss
from finetune.whitening import ClassCovariance, Floats, Targets
from models.errors import DatasetInvalid
from models.head import Head

SHRINKAGES = (1.0, 0.9, 0.75, 0.5, 0.3)
REGULARISATION_CS = tuple(10 ** (exponent / 2) for exponent in range(-4, 9))  # 0.01 to 10,000

_WORTHWHILE = 1e-3  # relative gain in log loss for which the search goes on: far below the noise of the estimate
_SEARCH_TOLERANCE = 3e-6  # of the gradient: moves a candidate's log loss by less than 1e-4 of it
_FINAL_TOLERANCE = 1e-8
_MOST_ITERATIONS = 10_000


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One setting and what cross-validation says of it.

    Attributes:
        shrinkage: of the covariance within classes.
        regularisation_c: prior variance of a logit.
        temperature: fitted on the out-of-fold logits.
        accuracy: share of the held-out rows that were predicted right.
        log_loss: of the held-out rows in nats, after temperature scaling.
    """

    shrinkage: float
    regularisation_c: float
    temperature: float
    accuracy: float
    log_loss: float


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A fitted head, and how it was chosen.

    Attributes:
        head: whitening is folded into its weights.
        temperature: logits are divided by it before the softmax.
        regularisation_c: as in `Candidate`.
        feature_scaling: ``whiten-S``, where S is the shrinkage.
        folds: of the cross-validation.
        cross_validated_accuracy: of the chosen candidate; a little optimistic, because it was chosen.
        cross_validated_log_loss: likewise.
        candidates: all that were tried, in order.
        converged: whether the optimiser ended by itself for the final head, not at its limit of iterations.
    """

    head: Head
    temperature: float
    regularisation_c: float
    feature_scaling: str
    folds: int
    cross_validated_accuracy: float
    cross_validated_log_loss: float
    candidates: tuple[Candidate, ...]
    converged: bool


def fit_probe(
    features_ND: npt.NDArray[np.float32],
    targets_N: Targets,
    *,
    class_count: int,
    seed: int,
    folds: int = 5,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Probe:
    """Chooses the settings by stratified cross-validation, then fits the head on all rows.

    Equal arguments give equal bits on one machine, whatever ``threads`` is: every fit has one thread to itself.

    Args:
        features_ND: of the training pool.
        targets_N: the index of each row's class.
        class_count: C; every class has at least one row.
        seed: of the assignment of rows to folds.
        folds: at least 2.
        threads: how many fits run at the same time; None means one for each core of this process.
        progress: called with candidates tried and candidates planned; the plan grows while the search goes on.

    Raises:
        DatasetInvalid: no class has two different rows, so that nothing can be held out.
        ValueError: fewer than two classes, or a class without a row.
    """
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    if class_count < 2 or np.bincount(targets_N, minlength=class_count).min() == 0:
        raise ValueError("a head needs two classes or more, and each of them a row")
    fold_N = assign_folds(features_ND, targets_N, folds=folds, seed=seed)
    if fold_N.max() < 0:
        raise DatasetInvalid("nothing can be held out to choose a head by; give each class two different examples")
    with (
        threadpool_limits(limits=1),
        warnings.catch_warnings(),  # around the threads, because filters belong to the whole process
        ThreadPoolExecutor(max_workers=threads or len(os.sched_getaffinity(0))) as pool,
    ):
        warnings.simplefilter("ignore", ConvergenceWarning)
        candidates = _search(_CrossValidation(features_ND, targets_N, fold_N, pool), progress)
        best = min(candidates, key=lambda candidate: candidate.log_loss)
        exact_ND = features_ND.astype(np.float64)
        covariance = ClassCovariance.of(exact_ND, targets_N)
        setting = _Setting(shrinkage=best.shrinkage, c=best.regularisation_c)
        fit = _fit(exact_ND, targets_N, covariance, setting, tolerance=_FINAL_TOLERANCE)
    return Probe(
        head=Head(
            weight_CD=torch.from_numpy(fit.weight_CD.astype(np.float32)),
            bias_C=torch.from_numpy(fit.bias_C.astype(np.float32)),
        ),
        temperature=best.temperature,
        regularisation_c=best.regularisation_c,
        feature_scaling=f"whiten-{best.shrinkage:g}",
        folds=int(fold_N.max()) + 1,
        cross_validated_accuracy=best.accuracy,
        cross_validated_log_loss=best.log_loss,
        candidates=tuple(candidates),
        converged=fit.iterations < _MOST_ITERATIONS,
    )


def assign_folds(
    features_ND: npt.NDArray[np.float32], targets_N: Targets, *, folds: int, seed: int
) -> npt.NDArray[np.int64]:
    """Deals the rows of each class out to the folds in turn, so that the other folds always hold that class too.

    Rows of one class with equal features are copies and share a fold: a copy in training would give the held-out one
    away. A class without two different rows is never held out, because no fold can do without it.

    Returns:
        For each row its fold, from 0; there are ``folds`` of them, or as many as different rows that can be held out.
        -1 for a row that is never held out.
    """
    random = np.random.default_rng(seed)
    dealt: list[npt.NDArray[np.intp]] = []
    for target in np.unique(targets_N):
        rows = np.flatnonzero(targets_N == target)
        copy_of = np.unique(features_ND[rows], axis=0, return_inverse=True)[1].reshape(-1)
        different = int(copy_of.max()) + 1
        if different > 1:
            dealt.extend(rows[copy_of == copy] for copy in random.permutation(different))
    fold_N = np.full(len(targets_N), -1)
    for turn, rows in enumerate(dealt):
        fold_N[rows] = turn % min(folds, len(dealt))
    return fold_N


class _Setting(NamedTuple):
    shrinkage: float
    c: float

    def moved(self, by: tuple[int, int]) -> _Setting | None:
        """The setting some steps away on the grid; None outside of it."""
        s, c = SHRINKAGES.index(self.shrinkage) + by[0], REGULARISATION_CS.index(self.c) + by[1]
        inside = 0 <= s < len(SHRINKAGES) and 0 <= c < len(REGULARISATION_CS)
        return _Setting(SHRINKAGES[s], REGULARISATION_CS[c]) if inside else None


# The best single setting over the data sets that were tried, and the answer where the data cannot tell.
_START = _Setting(shrinkage=0.75, c=1.0)


def _search(validation: _CrossValidation, progress: Callable[[int, int], None] | None) -> list[Candidate]:
    """Walks downhill on the grid, straight on while it goes down, until no neighbour is worth going to."""
    moves = [(0, 1), (0, -1), (-1, 0), (1, 0)]
    best, tried = _START, {_START: validation.candidate(_START)}
    while True:
        ahead = [(move, place) for move in moves if (place := best.moved(move)) is not None and place not in tried]
        if progress is not None:
            progress(len(tried), len(tried) + len(ahead))
        if not ahead:
            return list(tried.values())
        move, place = ahead[0]
        tried[place] = validation.candidate(place)
        if tried[place].log_loss < tried[best].log_loss * (1 - _WORTHWHILE):
            best = place
            moves.sort(key=lambda other: other != move)


class _CrossValidation:
    """Out-of-fold logits of any setting."""

    def __init__(
        self,
        features_ND: npt.NDArray[np.float32],
        targets_N: Targets,
        fold_N: npt.NDArray[np.int64],
        pool: ThreadPoolExecutor,
    ) -> None:
        self._features_ND, self._targets_N, self._fold_N, self._pool = features_ND, targets_N, fold_N, pool
        self._folds = range(int(fold_N.max()) + 1)
        self._covariances = list(pool.map(self._covariance, self._folds))

    def _covariance(self, fold: int) -> ClassCovariance:
        kept_N = self._fold_N != fold
        return ClassCovariance.of(self._features_ND[kept_N], self._targets_N[kept_N])

    def candidate(self, setting: _Setting) -> Candidate:
        """What cross-validation says of a setting."""
        logits_HC = np.concatenate(list(self._pool.map(lambda fold: self._held_out_logits(setting, fold), self._folds)))
        targets_H = np.concatenate([self._targets_N[self._fold_N == fold] for fold in self._folds])
        temperature = fit_temperature(logits_HC, targets_H)
        return Candidate(
            shrinkage=setting.shrinkage,
            regularisation_c=setting.c,
            temperature=temperature,
            accuracy=float(np.mean(logits_HC.argmax(axis=1) == targets_H)),
            log_loss=log_loss(logits_HC, targets_H, temperature),
        )

    def _held_out_logits(self, setting: _Setting, fold: int) -> Floats:
        kept_N, held_N = self._fold_N != fold, self._fold_N == fold
        kept_ND, targets_N = self._features_ND[kept_N], self._targets_N[kept_N]
        fit = _fit(kept_ND, targets_N, self._covariances[fold], setting, tolerance=_SEARCH_TOLERANCE)
        logits_HC: Floats = self._features_ND[held_N] @ fit.weight_CD.T + fit.bias_C
        return logits_HC


class _Fit(NamedTuple):
    weight_CD: Floats
    bias_C: Floats
    iterations: int


def _fit(
    features_ND: Floats, targets_N: Targets, covariance: ClassCovariance, setting: _Setting, *, tolerance: float
) -> _Fit:
    """Logistic regression on whitened features, as weights of the features themselves."""
    from sklearn.linear_model import LogisticRegression

    whitening_DK = covariance.whitening(setting.shrinkage)
    model = LogisticRegression(C=setting.c, tol=tolerance, max_iter=_MOST_ITERATIONS)
    model.fit((features_ND - covariance.mean_D) @ whitening_DK, targets_N)
    coefficients_CK, intercept_C = model.coef_, model.intercept_
    if len(coefficients_CK) == 1:  # two classes: a logistic z is a softmax of -z / 2 and z / 2
        coefficients_CK = np.concatenate([-coefficients_CK, coefficients_CK]) / 2
        intercept_C = np.concatenate([-intercept_C, intercept_C]) / 2
    weight_CD = coefficients_CK @ whitening_DK.T
    return _Fit(
        weight_CD=weight_CD, bias_C=intercept_C - weight_CD @ covariance.mean_D, iterations=int(model.n_iter_[0])
    )
