"""Temperature scaling: one number that makes scores as sure as they are right.

Shapes: N rows, C classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

LOWEST, HIGHEST = 0.01, 100.0
_HALVINGS = 30  # of the range's logarithm: relative precision 1e-8


def fit_temperature(logits_NC: npt.NDArray[Any], targets_N: npt.NDArray[np.integer[Any]]) -> float:
    """The temperature T that minimises the log loss of ``softmax(logits / T)`` (Guo et al. 2017).

    Each target gives 1 / (N + 2) of its weight to the other classes: the chance of an error after N rows without one
    (Laplace's rule of succession; Platt 1999 does the same for two classes). Without it, logits that separate all rows
    would ask for T = 0.

    Args:
        logits_NC: of rows that the classifier was not fitted on.
        targets_N: the index of each row's class.

    Returns:
        T between 0.01 and 100.
    """
    rows, classes = logits_NC.shape
    gap_NC = _gaps(logits_NC)
    true_N = gap_NC[np.arange(rows), targets_N]
    smoothing = 1 / (rows + 2)
    others = (gap_NC.sum() - true_N.sum()) / (classes - 1)
    wanted = (1 - smoothing) * true_N.sum() + smoothing * others
    # The loss is convex in 1 / T. Its slope, expected minus wanted sum of logits, rises through zero at the minimum.
    low, high = 1 / HIGHEST, 1 / LOWEST
    for _ in range(_HALVINGS):
        inverse = float(np.sqrt(low * high))
        weight_NC = np.exp(inverse * gap_NC)
        expected = (np.einsum("nc,nc->n", weight_NC, gap_NC) / weight_NC.sum(axis=1)).sum()
        if expected < wanted:
            low = inverse
        else:
            high = inverse
    return float(1 / np.sqrt(low * high))


def log_loss(logits_NC: npt.NDArray[Any], targets_N: npt.NDArray[np.integer[Any]], temperature: float) -> float:
    """The mean negative log-probability, in nats, that ``softmax(logits / temperature)`` gives to the true classes."""
    gap_NC = _gaps(logits_NC) / temperature
    true_N = gap_NC[np.arange(len(gap_NC)), targets_N]
    return float(np.mean(np.log(np.exp(gap_NC).sum(axis=1)) - true_N))


def _gaps(logits_NC: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Logits minus the largest of their row: the same softmax, and no exponential overflows."""
    logits_NC = logits_NC.astype(np.float64)
    gap_NC: npt.NDArray[np.float64] = logits_NC - logits_NC.max(axis=1, keepdims=True)
    return gap_NC
