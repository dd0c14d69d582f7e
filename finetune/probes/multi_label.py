"""Any number of labels a row: one logistic regression for each label against its absence, on whitened features.

Candidates are compared by the log loss of their out-of-fold logits after temperature scaling, which all labels share. One
threshold for all labels is then chosen by macro F1 on the out-of-fold scores: a threshold a label would be fitted to the few
rows of rare ones (Lipton et al. 2014, "Optimal thresholding of classifiers to maximize F1 measure", on what it costs).

Shapes: N rows, H held-out rows, D feature dimensions, K whitened dimensions, L labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from finetune.calibration import fit_sigmoid_temperature, sigmoid_log_loss
from finetune.evaluations.multi_label import macro_f1
from finetune.probes.folds import fitting_threads, held_out, in_folds
from finetune.probes.logistic import MOST_ITERATIONS, Weights, fit_whitened
from finetune.probes.probe import Candidate, Probe, Progress, head_of
from finetune.probes.search import Place, lowest, walk
from finetune.whitening import ClassCovariance, Floats
from models.manifest import Calibration

_SEARCH_TOLERANCE, _FINAL_TOLERANCE = 1e-5, 1e-7
_THRESHOLDS = np.arange(1, 100) / 100


def fit_multi_label(
    features_ND: npt.NDArray[np.float32],
    wanted_NL: npt.NDArray[np.bool_],
    fold_N: npt.NDArray[np.int64],
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Probe:
    """Chooses the settings by cross-validation, then fits the head on all rows.

    Args:
        features_ND: of the training pool.
        wanted_NL: whether a row has a label.
        fold_N: which fold each row is held out in.
        threads, progress: as in `finetune.probes.single_label.fit_single_label`.
    """
    wanted_HL = wanted_NL[held_out(fold_N)]
    with fitting_threads(threads) as pool:
        covariances = in_folds(
            pool, fold_N, lambda fold: ClassCovariance.around(features_ND[fold_N != fold], wanted_NL[fold_N != fold])
        )

        def held_out_logits(place: Place, fold: int) -> Floats:
            kept_N, held_N = fold_N != fold, fold_N == fold
            weight_LD, bias_L, _ = _fit(
                features_ND[kept_N], wanted_NL[kept_N], covariances[fold], place, tolerance=_SEARCH_TOLERANCE
            )
            logits_HL: Floats = features_ND[held_N] @ weight_LD.T + bias_L
            return logits_HL

        def judge(place: Place) -> Candidate:
            logits_HL = np.concatenate(in_folds(pool, fold_N, lambda fold: held_out_logits(place, fold)))
            return candidate(place.settings, logits_HL, wanted_HL)

        tried = walk(judge, progress)
        place = lowest(tried)
        exact_ND = features_ND.astype(np.float64)
        covariance = ClassCovariance.around(exact_ND, wanted_NL.astype(np.float64))
        weight_LD, bias_L, iterations = _fit(exact_ND, wanted_NL, covariance, place, tolerance=_FINAL_TOLERANCE)
    return Probe(
        head=head_of(weight_LD, bias_L, "sigmoid"),
        chosen=tried[place],
        folds=int(fold_N.max()) + 1,
        candidates=tuple(tried.values()),
        converged=iterations < MOST_ITERATIONS,
    )


def candidate(settings: Any, logits_HL: Floats, wanted_HL: npt.NDArray[np.bool_]) -> Candidate:
    """What rows that a head was not fitted on say of it: temperature, threshold, macro F1 and log loss."""
    temperature = fit_sigmoid_temperature(logits_HL, wanted_HL)
    scores_HL = 1 / (1 + np.exp(-logits_HL.astype(np.float64) / temperature))
    threshold, score = best_threshold(scores_HL, wanted_HL)
    return Candidate(
        settings=settings,
        calibration=Calibration(temperature=temperature, threshold=threshold),
        score=score,
        loss=sigmoid_log_loss(logits_HL, wanted_HL, temperature),
    )


def best_threshold(scores_HL: Floats, wanted_HL: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """The threshold, in steps of 0.01, with the highest macro F1, and that F1; of equals the one nearest to 0.5."""
    found = [
        (macro_f1(scores_HL >= threshold, wanted_HL), -abs(threshold - 0.5), threshold) for threshold in _THRESHOLDS
    ]
    score, _, threshold = max(found)
    return float(threshold), score


def _fit(
    features_ND: Floats,
    wanted_NL: npt.NDArray[np.bool_],
    covariance: ClassCovariance,
    place: Place,
    *,
    tolerance: float,
) -> Weights:
    """Regressions on whitened features, as weights of the features themselves.

    A label that all rows have, or none, is answered with its share, as if one more row were half without it.
    """
    weight_LD, bias_L, iterations = fit_whitened(
        features_ND,
        wanted_NL.astype(features_ND.dtype),
        covariance,
        shrinkage=place.shrinkage,
        activation="sigmoid",
        c=place.c,
        tolerance=tolerance,
    )
    counts_L = wanted_NL.sum(axis=0)
    constant_L = (counts_L == 0) | (counts_L == len(wanted_NL))
    weight_LD[constant_L] = 0
    bias_L[constant_L] = np.log((counts_L + 0.5) / (len(wanted_NL) - counts_L + 0.5))[constant_L]
    return Weights(weight_LD, bias_L, iterations)
