"""One number by which models are chosen while they learn, higher is better; the evaluation at the end says much more.

Shapes: V vectors, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from models.entities import entities

Metric: TypeAlias = Callable[[npt.NDArray[Any], npt.NDArray[Any], Sequence[str]], float]


def _accuracy(logits_VC: npt.NDArray[Any], targets_V: npt.NDArray[Any], _labels: Sequence[str]) -> float:
    return float((logits_VC.argmax(axis=1) == targets_V).mean())


def _macro_f1(logits_VC: npt.NDArray[Any], targets_VC: npt.NDArray[Any], _labels: Sequence[str]) -> float:
    """Of the labels that occur among targets or answers, as the evaluation counts them; 0 where none does."""
    said_VC, true_VC = logits_VC > 0, targets_VC > 0
    seen_C = said_VC.sum(axis=0) + true_VC.sum(axis=0)
    f1_C = 2 * (said_VC & true_VC).sum(axis=0) / np.maximum(seen_C, 1)
    return float(f1_C.sum() / max(1, np.count_nonzero(seen_C)))


def _spearman(values_V1: npt.NDArray[Any], targets_V: npt.NDArray[Any], _labels: Sequence[str]) -> float:
    """0 where all values are equal."""
    from scipy.stats import rankdata

    ranks_V, wanted_V = rankdata(values_V1[:, 0]), rankdata(targets_V)
    if np.ptp(ranks_V) == 0 or np.ptp(wanted_V) == 0:
        return 0.0
    return float(np.corrcoef(ranks_V, wanted_V)[0, 1])


def _entity_f1(logits_VC: npt.NDArray[Any], targets_V: npt.NDArray[Any], labels: Sequence[str]) -> float:
    """Of all texts as one: an entity at the end of one could run on into the next, which changes next to nothing."""
    found, wanted = (set(entities([labels[tag] for tag in tags_V])) for tags_V in (logits_VC.argmax(axis=1), targets_V))
    return 2 * len(found & wanted) / (len(found) + len(wanted)) if found or wanted else 0.0


METRICS: Mapping[str, Metric] = {
    "accuracy": _accuracy,
    "macro_f1": _macro_f1,
    "spearman": _spearman,
    "entity_f1": _entity_f1,
}
"""By `models.task.TaskTraits.primary_metric`: of logits, targets and the labels in the order of the head's rows."""
