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

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from finetune.calibration import fit_temperature, log_losses
from finetune.probes import logistic
from finetune.probes.folds import FOLDS, Units, assign_folds, fitting_threads, held_out, in_folds
from finetune.probes.mlp import MLP_ROWS, fit_mlp
from finetune.probes.probe import Candidate, Probe, Progress, head_of
from finetune.probes.search import WORTHWHILE, Place, lowest, walk
from finetune.whitening import ClassCovariance, Floats, Targets
from models.head import Head, Hidden
from models.manifest import Calibration, Setting

_SEARCH_TOLERANCE = 3e-5  # of the gradient: moves a candidate's log loss by less than 0.3 % of it
_FINAL_TOLERANCE = 1e-6  # in fp32: moves a logit by less than 0.003 (10,003 rows, 77 classes)
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
        tried = walk(lambda place: validation.judge(_logistic(place)), progress)
        place = lowest(tried)
        fit, chosen, candidates = _logistic(place), tried[place], [*tried.values()]
        others = [_logistic(place, balanced=True), _prototypes(place)]
        if not linear and len(features_ND) >= MLP_ROWS:
            others.append(_mlp(place, seed))
        for candidate, other in zip(validation.challenge(others, chosen), others, strict=True):
            if candidate is None:
                continue
            candidates.append(candidate)
            if validation.is_better(candidate, chosen):
                fit, chosen = other, candidate
        covariance = ClassCovariance.of(features_ND, targets_N)
        weights = fit.weights(_Given(features_ND, targets_N, covariance, validation.near(), _FINAL_TOLERANCE))
    return Probe(
        head=weights.head(),
        chosen=chosen,
        folds=int(fold_N.max()) + 1,
        candidates=tuple(candidates),
        converged=weights.converged,
    )


class _Given(NamedTuple):
    """What a fit is given.

    Attributes:
        near: weights to start from, if there are any.
        tolerance: of the gradient.
    """

    features_ND: Floats
    targets_N: Targets
    covariance: ClassCovariance
    near: Weights | None = None
    tolerance: float = _SEARCH_TOLERANCE


class _Fit(NamedTuple):
    """A way to fit."""

    settings: dict[str, Setting]
    weights: Callable[[_Given], Weights]


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
        self._near: dict[int, Weights] = {}

    def _covariance(self, fold: int) -> ClassCovariance:
        kept_N = self._fold_N != fold
        return ClassCovariance.of(self._features_ND[kept_N], self._targets_N[kept_N])

    def near(self) -> Weights:
        """Weights of the last fit that was judged."""
        return self._near[0]

    def judge(self, fit: _Fit) -> Candidate:
        """What cross-validation says of a way to fit, which starts from what was judged before."""

        def logits(fold: int) -> Floats:
            self._near[fold] = weights = self._weights(fit, fold)
            return self._logits(weights, fold)

        return self._candidate(fit, in_folds(self._pool, self._fold_N, logits))

    def challenge(self, fits: Sequence[_Fit], best: Candidate) -> list[Candidate | None]:
        """The same of others; None where the first fold alone shows that one is no better."""

        def logits(fit: _Fit, fold: int) -> Floats:
            return self._logits(self._weights(fit, fold), fold)

        found: list[Candidate | None] = []
        for fit, first_HC in zip(fits, self._pool.map(logits, fits, [0] * len(fits)), strict=True):
            targets_H = self._targets_H[: len(first_HC)]
            losses_H = log_losses(first_HC, targets_H, fit_temperature(first_HC, targets_H))
            if losses_H.mean() >= (1 - WORTHWHILE) * self._losses_H[str(best.settings)][: len(first_HC)].mean():
                found.append(None)
                continue
            others = range(1, int(self._fold_N.max()) + 1)
            rest = in_folds(self._pool, self._fold_N, partial(logits, fit), others)
            found.append(self._candidate(fit, [first_HC, *rest]))
        return found

    def is_better(self, candidate: Candidate, best: Candidate) -> bool:
        """Whether the mean of its losses is lower by more than chance."""
        gain_H = self._losses_H[str(best.settings)] - self._losses_H[str(candidate.settings)]
        return bool(gain_H.mean() > _SURE * gain_H.std() / np.sqrt(len(gain_H)))

    def _candidate(self, fit: _Fit, logits: Sequence[Floats]) -> Candidate:
        logits_HC = np.concatenate(logits)
        temperature = fit_temperature(logits_HC, self._targets_H)
        losses_H = log_losses(logits_HC, self._targets_H, temperature)
        self._losses_H[str(fit.settings)] = losses_H
        return Candidate(
            settings=fit.settings,
            calibration=Calibration(temperature=temperature),
            score=float(np.mean(logits_HC.argmax(axis=1) == self._targets_H)),
            loss=float(np.mean(losses_H)),
        )

    def _weights(self, fit: _Fit, fold: int) -> Weights:
        kept_N, near = self._fold_N != fold, self._near.get(fold)
        return fit.weights(_Given(self._features_ND[kept_N], self._targets_N[kept_N], self._covariances[fold], near))

    def _logits(self, weights: Weights, fold: int) -> Floats:
        return weights.logits(self._features_ND[self._fold_N == fold])


def _logistic(place: Place, *, balanced: bool = False) -> _Fit:
    """Logistic regression on whitened features."""

    def weights(given: _Given) -> Weights:
        counts_C = np.bincount(given.targets_N)
        wanted_NC = np.eye(len(counts_C), dtype=given.features_ND.dtype)[given.targets_N]
        start = None if given.near is None else logistic.Weights(given.near.weight_CD, given.near.bias_C, 0)
        two = len(counts_C) == 2
        if two:  # a logistic z is a softmax of -z / 2 and z / 2
            wanted_NC = wanted_NC[:, 1:]
            if start is not None:
                start = logistic.Weights(2 * start.weight_CK[1:], 2 * start.bias_C[1:], 0)
        weight_CD, bias_C, iterations = logistic.fit_whitened(
            given.features_ND,
            wanted_NC,
            given.covariance,
            shrinkage=place.shrinkage,
            activation="sigmoid" if two else "softmax",
            c=place.c,
            tolerance=given.tolerance,
            start=start,
            weight_N=(len(wanted_NC) / len(counts_C) / counts_C)[given.targets_N] if balanced else None,
        )
        if two:
            weight_CD = np.concatenate([-weight_CD, weight_CD]) / 2
            bias_C = np.concatenate([-bias_C, bias_C]) / 2
        return Weights(weight_CD, bias_C, converged=iterations < logistic.MOST_ITERATIONS)

    return _Fit({**place.settings, **({"class_weight": "balanced"} if balanced else {})}, weights)


def _prototypes(place: Place) -> _Fit:
    """The mean direction of each class, among whitened rows."""

    def weights(given: _Given) -> Weights:
        whitening_DK = given.covariance.whitening(place.shrinkage)
        rows_NK = (given.features_ND - given.covariance.mean_D) @ whitening_DK
        rows_NK /= np.maximum(np.linalg.norm(rows_NK, axis=1, keepdims=True), np.finfo(rows_NK.dtype).tiny)
        means_CK = np.stack([rows_NK[given.targets_N == target].mean(axis=0) for target in np.unique(given.targets_N)])
        means_CK /= np.maximum(np.linalg.norm(means_CK, axis=1, keepdims=True), np.finfo(rows_NK.dtype).tiny)
        weight_CD = means_CK @ whitening_DK.T
        return Weights(weight_CD, -weight_CD @ given.covariance.mean_D)

    return _Fit({"head": "prototypes", "feature_scaling": place.settings["feature_scaling"]}, weights)


def _mlp(place: Place, seed: int) -> _Fit:
    """One hidden layer on whitened features."""

    def weights(given: _Given) -> Weights:
        whitening_DK, mean_D = given.covariance.whitening(place.shrinkage), given.covariance.mean_D
        layers = fit_mlp((given.features_ND - mean_D) @ whitening_DK, given.targets_N, seed=seed)
        return Weights(layers.weight_CH, layers.bias_C, hidden=layers.unwhitened(whitening_DK, mean_D))

    return _Fit({"head": "mlp", "feature_scaling": place.settings["feature_scaling"]}, weights)
