"""The one number that a task's models are compared by, of many resamples at once.

Shapes: N rows, R resamples, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from finetune.example import Label
from models.entities import entities

Floats: TypeAlias = npt.NDArray[np.float64]

Statistic: TypeAlias = Callable[[npt.NDArray[np.intp]], Floats]
"""From row indices ``(R, N)`` to the metric of each resample ``(R,)``."""

Metric: TypeAlias = Callable[[Sequence[Label], Sequence[Label]], Statistic]
"""From the true labels of all rows and the predicted ones; higher is better."""


def accuracy(truths: Sequence[Label], answers: Sequence[Label]) -> Statistic:
    """The share of rows that are right."""
    correct_N = np.array([truth == answer for truth, answer in zip(truths, answers, strict=True)], dtype=np.float64)
    return lambda rows_RN: correct_N[rows_RN].mean(axis=1)


def macro_f1(truths: Sequence[Label], answers: Sequence[Label]) -> Statistic:
    """Of several labels a row: the mean F1 over those that occur among truths or answers, each counted alike."""
    names = {name for label in (*truths, *answers) for name in _names(label)}
    classes = {name: index for index, name in enumerate(sorted(names))}

    def holds(labels: Sequence[Label]) -> Floats:
        holds_NC = np.zeros((len(labels), len(classes)))
        for row, label in enumerate(labels):
            holds_NC[row, [classes[name] for name in _names(label)]] = 1
        return holds_NC

    true_NC, said_NC = holds(truths), holds(answers)
    hits_NC, seen_NC = true_NC * said_NC, true_NC + said_NC

    def statistic(rows_RN: npt.NDArray[np.intp]) -> Floats:
        times_RN = _times(rows_RN)
        hits_RC, seen_RC = times_RN @ hits_NC, times_RN @ seen_NC
        f1_RC = 2 * hits_RC / np.maximum(seen_RC, 1)
        occurring_R: Floats = f1_RC.sum(axis=1) / np.maximum(np.count_nonzero(seen_RC, axis=1), 1)
        return occurring_R

    return statistic


def entity_f1(truths: Sequence[Label], answers: Sequence[Label]) -> Statistic:
    """F1 over entities, which are right if label, first and last word are (Tjong Kim Sang and De Meulder 2003)."""
    pairs = [
        (set(entities(_names(truth))), set(entities(_names(answer))))
        for truth, answer in zip(truths, answers, strict=True)
    ]
    counts_N2 = np.array([(len(true & said), len(true) + len(said)) for true, said in pairs], dtype=np.float64)

    def statistic(rows_RN: npt.NDArray[np.intp]) -> Floats:
        hits_R, seen_R = counts_N2[rows_RN].sum(axis=1).T
        f1_R: Floats = 2 * hits_R / np.maximum(seen_R, 1)
        return f1_R

    return statistic


def spearman(truths: Sequence[Label], answers: Sequence[Label]) -> Statistic:
    """The correlation of ranks; 0 where all truths or all answers of a resample are equal."""
    values_2N = np.array([truths, answers], dtype=np.float64)

    def statistic(rows_RN: npt.NDArray[np.intp]) -> Floats:
        from scipy.stats import rankdata

        ranks_2RN = rankdata(values_2N[:, rows_RN], axis=-1)
        ranks_2RN -= ranks_2RN.mean(axis=-1, keepdims=True)
        products_R = (ranks_2RN[0] * ranks_2RN[1]).sum(axis=-1)
        lengths_R = np.sqrt((ranks_2RN**2).sum(axis=-1).prod(axis=0))
        correlation_R: Floats = products_R / np.where(lengths_R > 0, lengths_R, 1)
        return correlation_R

    return statistic


def _names(label: Label) -> Sequence[str]:
    assert isinstance(label, tuple)
    return label


def _times(rows_RN: npt.NDArray[np.intp]) -> Floats:
    """How often each row is drawn in each resample."""
    resamples, count = rows_RN.shape
    keys_RN = rows_RN + np.arange(resamples)[:, None] * count
    return np.bincount(keys_RN.ravel(), minlength=resamples * count).reshape(resamples, count).astype(np.float64)


METRICS: Mapping[str, Metric] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "entity_f1": entity_f1,
    "spearman": spearman,
}
"""By `models.task.TaskTraits.primary_metric`."""
