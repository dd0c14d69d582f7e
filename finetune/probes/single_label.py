"""One class a row: multinomial logistic regression on whitened features, or what cross-validation prefers to it.

Candidates are compared by the log loss of their out-of-fold logits *after* temperature scaling, which is how a head is
published. Inside training data it chose better heads than accuracy, which is coarse, and than the plain log loss, which
mistakes weights that are too small for wrong ones.

First the settings of logistic regression are searched (`finetune.probes.search`). With the whitening that it chose, three
others are tried, each of which must be better by more than its own noise:

- *balanced* class weights: every class has the same say, however many rows it has.
- *prototypes*: a class is the mean direction of its rows (Snell et al. 2017; by cosine, as in Gidaris & Komodakis 2018). The
  temperature is its scale. Nothing is fitted to single rows, which suits very few of them.
- *mlp*: one hidden layer (`finetune.probes.mlp`), where there are rows enough.

Whitening is linear and ends up in the head's weights.

Shapes: N rows, H held-out rows, D feature dimensions, K whitened dimensions, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from finetune.calibration import fit_temperature, log_losses
from finetune.probes.folds import FOLDS, Units, assign_folds, fitting_threads, held_out, in_folds
from finetune.probes.mlp import MLP_ROWS, fit_mlp
from finetune.probes.probe import Candidate, Probe, Progress, head_of
from finetune.probes.search import WORTHWHILE, Place, lowest, walk
from finetune.whitening import ClassCovariance, Floats, Targets
from models.head import Head, Hidden
from models.manifest import Calibration, Setting

_SEARCH_TOLERANCE = 3e-6  # of the gradient: moves a candidate's log loss by less than 1e-4 of it
_FINAL_TOLERANCE = 1e-8
_MOST_ITERATIONS = 10_000
_SURE = 2.0  # standard errors of the mean difference in log loss, by which another kind of head must be better


class Weights(NamedTuple):
    """Of the features as they come from the backbone, or of the hidden units."""

    weight_CD: Floats
    bias_C: Floats
    converged: bool = True
    hidden: Hidden | None = None

    def head(self) -> Head:
        return head_of(self.weight_CD, self.bias_C, "softmax", self.hidden)

    def logits(self, features_ND: Floats) -> Floats:
        if self.hidden is not None:
            features_ND = self.hidden.units(features_ND.astype(np.float32))
        logits_NC: Floats = features_ND @ self.weight_CD.T + self.bias_C
        return logits_NC


def fit_single_label(
    features_ND: npt.NDArray[np.float32],
    targets_N: Targets,
    *,
    class_count: int,
    seed: int,
    units: Units | None = None,
    linear: bool = False,
    folds: int = FOLDS,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Probe:
    """Chooses the settings by stratified cross-validation, then fits the head on all rows.

    Equal arguments give equal bits on one machine, whatever ``threads`` is: every fit has one thread to itself.

    Args:
        features_ND: of the training pool.
        targets_N: the index of each row's class.
        class_count: C; every class has at least one row.
        seed: of the assignment of rows to folds, and of a hidden layer's first weights.
        units: for each row the names of what it belongs to; rows that share one share a fold.
        linear: leaves out heads with a hidden layer.
        folds: at least 2.
        threads: how many fits run at the same time; None means one for each core of this process.
        progress: called while the search goes on.

    Raises:
        DatasetInvalid: no class has two different rows, so that nothing can be held out.
        ValueError: fewer than two classes, or a class without a row.
    """
    if class_count < 2 or np.bincount(targets_N, minlength=class_count).min() == 0:
        raise ValueError("a head needs two classes or more, and each of them a row")
    fold_N = assign_folds(features_ND, targets_N, units=units, folds=folds, seed=seed)
    with fitting_threads(threads) as pool:
        validation = _CrossValidation(features_ND, targets_N, fold_N, pool)
        tried = walk(lambda place: validation.judge(_logistic(place, tolerance=_SEARCH_TOLERANCE)), progress)
        place = lowest(tried)
        fit, chosen, candidates = _logistic(place, tolerance=_FINAL_TOLERANCE), tried[place], [*tried.values()]
        others = [_logistic(place, tolerance=_SEARCH_TOLERANCE, balanced=True), _prototypes(place)]
        if not linear and len(features_ND) >= MLP_ROWS:
            others.append(_mlp(place, seed))
        for other in others:
            candidate = validation.challenge(other, chosen)
            if candidate is None:
                continue
            candidates.append(candidate)
            if validation.is_better(candidate, chosen):
                fit, chosen = other, candidate
        exact_ND = features_ND.astype(np.float64)
        weights = fit.weights(exact_ND, targets_N, ClassCovariance.of(exact_ND, targets_N))
    return Probe(
        head=weights.head(),
        chosen=chosen,
        folds=int(fold_N.max()) + 1,
        candidates=tuple(candidates),
        converged=weights.converged,
    )


class _Fit(NamedTuple):
    """A way to fit: from rows, targets and their covariance to weights."""

    settings: dict[str, Setting]
    weights: Callable[[Floats, Targets, ClassCovariance], Weights]


class _CrossValidation:
    """Out-of-fold logits of any way to fit."""

    def __init__(
        self,
        features_ND: npt.NDArray[np.float32],
        targets_N: Targets,
        fold_N: npt.NDArray[np.int64],
        pool: ThreadPoolExecutor,
    ) -> None:
        self._features_ND, self._targets_N, self._fold_N, self._pool = features_ND, targets_N, fold_N, pool
        self._targets_H = targets_N[held_out(fold_N)]
        self._covariances = in_folds(pool, fold_N, self._covariance)
        self._losses_H: dict[str, npt.NDArray[np.float64]] = {}  # by settings

    def _covariance(self, fold: int) -> ClassCovariance:
        kept_N = self._fold_N != fold
        return ClassCovariance.of(self._features_ND[kept_N], self._targets_N[kept_N])

    def judge(self, fit: _Fit) -> Candidate:
        """What cross-validation says of a way to fit."""
        logits = in_folds(self._pool, self._fold_N, lambda fold: self._held_out_logits(fit, fold))
        return self._candidate(fit, np.concatenate(logits))

    def challenge(self, fit: _Fit, best: Candidate) -> Candidate | None:
        """The same; None where the first fold alone shows that it is no better."""
        first_HC = self._held_out_logits(fit, 0)
        targets_H = self._targets_H[: len(first_HC)]
        losses_H = log_losses(first_HC, targets_H, fit_temperature(first_HC, targets_H))
        if losses_H.mean() >= (1 - WORTHWHILE) * self._losses_H[str(best.settings)][: len(first_HC)].mean():
            return None
        rest = range(1, int(self._fold_N.max()) + 1)
        logits = in_folds(self._pool, self._fold_N, lambda fold: self._held_out_logits(fit, fold), rest)
        return self._candidate(fit, np.concatenate([first_HC, *logits]))

    def is_better(self, candidate: Candidate, best: Candidate) -> bool:
        """Whether the mean of its losses is lower by more than chance."""
        gain_H = self._losses_H[str(best.settings)] - self._losses_H[str(candidate.settings)]
        return bool(gain_H.mean() > _SURE * gain_H.std() / np.sqrt(len(gain_H)))

    def _candidate(self, fit: _Fit, logits_HC: Floats) -> Candidate:
        temperature = fit_temperature(logits_HC, self._targets_H)
        losses_H = log_losses(logits_HC, self._targets_H, temperature)
        candidate = Candidate(
            settings=fit.settings,
            calibration=Calibration(temperature=temperature),
            score=float(np.mean(logits_HC.argmax(axis=1) == self._targets_H)),
            loss=float(np.mean(losses_H)),
        )
        self._losses_H[str(candidate.settings)] = losses_H
        return candidate

    def _held_out_logits(self, fit: _Fit, fold: int) -> Floats:
        kept_N, held_N = self._fold_N != fold, self._fold_N == fold
        weights = fit.weights(self._features_ND[kept_N], self._targets_N[kept_N], self._covariances[fold])
        return weights.logits(self._features_ND[held_N])


def _logistic(place: Place, *, tolerance: float, balanced: bool = False) -> _Fit:
    """Logistic regression on whitened features, as weights of the features themselves."""

    def weights(features_ND: Floats, targets_N: Targets, covariance: ClassCovariance) -> Weights:
        from sklearn.linear_model import LogisticRegression

        whitening_DK = covariance.whitening(place.shrinkage)
        class_weight = "balanced" if balanced else None
        model = LogisticRegression(C=place.c, tol=tolerance, max_iter=_MOST_ITERATIONS, class_weight=class_weight)
        model.fit((features_ND - covariance.mean_D) @ whitening_DK, targets_N)
        coefficients_CK, intercept_C = model.coef_, model.intercept_
        if len(coefficients_CK) == 1:  # two classes: a logistic z is a softmax of -z / 2 and z / 2
            coefficients_CK = np.concatenate([-coefficients_CK, coefficients_CK]) / 2
            intercept_C = np.concatenate([-intercept_C, intercept_C]) / 2
        weight_CD = coefficients_CK @ whitening_DK.T
        converged = int(model.n_iter_[0]) < _MOST_ITERATIONS
        return Weights(weight_CD, intercept_C - weight_CD @ covariance.mean_D, converged)

    return _Fit({**place.settings, **({"class_weight": "balanced"} if balanced else {})}, weights)


def _prototypes(place: Place) -> _Fit:
    """The mean direction of each class, among whitened rows."""

    def weights(features_ND: Floats, targets_N: Targets, covariance: ClassCovariance) -> Weights:
        whitening_DK = covariance.whitening(place.shrinkage)
        rows_NK = (features_ND - covariance.mean_D) @ whitening_DK
        rows_NK /= np.maximum(np.linalg.norm(rows_NK, axis=1, keepdims=True), np.finfo(rows_NK.dtype).tiny)
        means_CK = np.stack([rows_NK[targets_N == target].mean(axis=0) for target in np.unique(targets_N)])
        means_CK /= np.maximum(np.linalg.norm(means_CK, axis=1, keepdims=True), np.finfo(rows_NK.dtype).tiny)
        weight_CD = means_CK @ whitening_DK.T
        return Weights(weight_CD, -weight_CD @ covariance.mean_D)

    return _Fit({"head": "prototypes", "feature_scaling": place.settings["feature_scaling"]}, weights)


def _mlp(place: Place, seed: int) -> _Fit:
    """One hidden layer on whitened features."""

    def weights(features_ND: Floats, targets_N: Targets, covariance: ClassCovariance) -> Weights:
        whitening_DK = covariance.whitening(place.shrinkage)
        layers = fit_mlp((features_ND - covariance.mean_D) @ whitening_DK, targets_N, seed=seed)
        return Weights(layers.weight_CH, layers.bias_C, hidden=layers.unwhitened(whitening_DK, covariance.mean_D))

    return _Fit({"head": "mlp", "feature_scaling": place.settings["feature_scaling"]}, weights)
