"""What a model is worth that says which labels hold.

Shapes: N rows, L labels, R resamples, B bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from finetune.evaluations.class_scores import CONFIDENCE, counted
from finetune.evaluations.evaluation import Measured
from finetune.evaluations.resamples import PERMUTATIONS, RESAMPLES, multiplicities, permuted
from finetune.intervals import percentile, wilson

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

_BINS = 15


def evaluate_multi_label(
    scores_NL: npt.NDArray[np.floating[Any]], wanted_NL: Bools, *, threshold: float, classes: Sequence[str], seed: int
) -> Measured:
    """Scores answers against the truth.

    Args:
        scores_NL: a probability for each label of each row.
        wanted_NL: whether the label holds.
        threshold: of the score from which a label is answered.
        classes: L labels.
        seed: of the bootstrap.

    Raises:
        ValueError: no rows, or shapes that do not fit.
    """
    if scores_NL.shape != wanted_NL.shape or scores_NL.shape[1:] != (len(classes),) or not len(scores_NL):
        raise ValueError(f"{len(classes)} labels need rows of as many scores and answers, not {scores_NL.shape}")
    rows = len(scores_NL)
    said_NL = scores_NL >= threshold
    hits_NL = said_NL & wanted_NL
    order_NL = np.argsort(-scores_NL, axis=0, kind="stable")
    gap_NB = _gaps(scores_NL.astype(np.float64), wanted_NL)
    label_count = len(classes)

    def statistics(weight_RN: Floats) -> Floats:
        hits_RL, said_RL, wanted_RL = (weight_RN @ each for each in (hits_NL, said_NL, wanted_NL))
        seen_RL = said_RL + wanted_RL
        f1_RL = 2 * hits_RL / np.maximum(seen_RL, 1)
        macro_R = f1_RL.sum(axis=1) / np.maximum(np.count_nonzero(seen_RL, axis=1), 1)
        micro_R = 2 * hits_RL.sum(axis=1) / np.maximum(seen_RL.sum(axis=1), 1)
        ece_R = np.abs(weight_RN @ gap_NB).sum(axis=1) / (rows * label_count)
        precision_R = _mean_average_precision(weight_RN, order_NL, wanted_NL)
        return np.column_stack([macro_R, micro_R, precision_R, ece_R, f1_RL])

    names = ("macro_f1", "micro_f1", "mean_average_precision", "ece")
    estimates = statistics(np.ones((1, rows)))[0]
    resampled_RK = np.concatenate([statistics(part_RN) for part_RN in multiplicities(rows, RESAMPLES, seed)])
    intervals = {name: percentile(float(estimates[i]), resampled_RK[:, i], CONFIDENCE) for i, name in enumerate(names)}
    exact = int((said_NL == wanted_NL).all(axis=1).sum())
    hits_L, said_L, wanted_L = (each.sum(axis=0).tolist() for each in (hits_NL, said_NL, wanted_NL))
    first = len(names)
    return Measured(
        rows=rows,
        metrics={
            **dict(zip(names[:3], estimates.tolist(), strict=False)),
            "exact_match": exact / rows,
            "ece": float(estimates[3]),
        },
        intervals={**intervals, "exact_match": wilson(exact, rows, CONFIDENCE)},
        chance=_chance(said_NL, wanted_NL, seed),
        per_class=tuple(
            counted(
                label,
                hits=hits_L[i],
                found=said_L[i],
                wanted=wanted_L[i],
                f1_ci=percentile(float(estimates[first + i]), resampled_RK[:, first + i], CONFIDENCE),
            )
            for i, label in enumerate(classes)
        ),
    )


def macro_f1(said_NL: Bools, wanted_NL: Bools) -> float:
    """Mean F1 over the labels that occur among either; 0 where none does."""
    hits_L = (said_NL & wanted_NL).sum(axis=0)
    seen_L = said_NL.sum(axis=0) + wanted_NL.sum(axis=0)
    return float((2 * hits_L / np.maximum(seen_L, 1)).sum() / max(np.count_nonzero(seen_L), 1))


def _chance(said_NL: Bools, wanted_NL: Bools, seed: int) -> float:
    orders = permuted(len(said_NL), seed)
    return float(np.mean([macro_f1(said_NL[next(orders)], wanted_NL) for _ in range(PERMUTATIONS)]))


def _gaps(scores_NL: Floats, wanted_NL: Bools) -> Floats:
    """For each row and bin of scores, the sum of scores minus truth: ``(N, B)``."""
    bin_NL = (np.ceil(scores_NL * _BINS).astype(np.intp) - 1).clip(0, _BINS - 1)
    gap_NB = np.zeros((len(scores_NL), _BINS))
    np.add.at(gap_NB, (np.arange(len(scores_NL))[:, None], bin_NL), scores_NL - wanted_NL)
    return gap_NB


def _mean_average_precision(weight_RN: Floats, order_NL: npt.NDArray[np.intp], wanted_NL: Bools) -> Floats:
    """Mean over the labels that hold somewhere, for each resample: ``(R,)``; 0 where none does."""
    total_R, count_R = np.zeros(len(weight_RN)), np.zeros(len(weight_RN))
    for label in range(wanted_NL.shape[1]):
        order_N = order_NL[:, label]
        ranked_RN = weight_RN[:, order_N]
        right_RN = ranked_RN * wanted_NL[order_N, label]
        found_RN = right_RN.cumsum(axis=1)
        precision_RN = found_RN / np.maximum(ranked_RN.cumsum(axis=1), 1)
        positives_R = found_RN[:, -1]
        total_R += (precision_RN * right_RN).sum(axis=1) / np.maximum(positives_R, 1)
        count_R += positives_R > 0
    return total_R / np.maximum(count_R, 1)
