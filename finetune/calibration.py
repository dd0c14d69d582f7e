"""Temperature scaling: one number that makes scores as sure as they are right.

Shapes: N rows, C classes, L labels.
"""

from __future__ import annotations

from collections.abc import Callable
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

    def expected(inverse: float) -> float:
        weight_NC = np.exp(inverse * gap_NC)
        return float((np.einsum("nc,nc->n", weight_NC, gap_NC) / weight_NC.sum(axis=1)).sum())

    return _minimum(expected, wanted)


def fit_sigmoid_temperature(logits_NL: npt.NDArray[Any], wanted_NL: npt.NDArray[np.bool_]) -> float:
    """The same for labels that do not exclude each other: one T for all, of ``sigmoid(logits / T)``.

    Args:
        wanted_NL: whether a row has a label.
    """
    logits_NL = logits_NL.astype(np.float64)
    smoothing = 1 / (len(logits_NL) + 2)
    signed_NL = np.where(wanted_NL, logits_NL, -logits_NL)  # positive where right
    wanted = (1 - 2 * smoothing) * signed_NL.sum() / 2

    def expected(inverse: float) -> float:
        return float((signed_NL * np.tanh(inverse * signed_NL / 2)).sum()) / 2

    return _minimum(expected, wanted)


def _minimum(expected: Callable[[float], float], wanted: float) -> float:
    """The temperature of the lowest loss, which is convex in 1 / T.

    Its slope, expected minus wanted sum of logits, rises through zero there.
    """
    low, high = 1 / HIGHEST, 1 / LOWEST
    for _ in range(_HALVINGS):
        inverse = float(np.sqrt(low * high))
        if expected(inverse) < wanted:
            low = inverse
        else:
            high = inverse
    return float(1 / np.sqrt(low * high))


def log_losses(
    logits_NC: npt.NDArray[Any], targets_N: npt.NDArray[np.integer[Any]], temperature: float
) -> npt.NDArray[np.float64]:
    """The negative log-probability, in nats, that ``softmax(logits / temperature)`` gives to each row's class."""
    gap_NC = _gaps(logits_NC) / temperature
    true_N = gap_NC[np.arange(len(gap_NC)), targets_N]
    losses_N: npt.NDArray[np.float64] = np.log(np.exp(gap_NC).sum(axis=1)) - true_N
    return losses_N


def log_loss(logits_NC: npt.NDArray[Any], targets_N: npt.NDArray[np.integer[Any]], temperature: float) -> float:
    """The mean of `log_losses`."""
    return float(np.mean(log_losses(logits_NC, targets_N, temperature)))


def sigmoid_log_loss(logits_NL: npt.NDArray[Any], wanted_NL: npt.NDArray[np.bool_], temperature: float) -> float:
    """The mean negative log-probability, in nats, that ``sigmoid(logits / temperature)`` gives to what holds of a label."""
    logits_NL = logits_NL.astype(np.float64) / temperature
    return float(np.logaddexp(0, np.where(wanted_NL, -logits_NL, logits_NL)).mean())


def _gaps(logits_NC: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Logits minus the largest of their row: the same softmax, and no exponential overflows."""
    logits_NC = logits_NC.astype(np.float64)
    gap_NC: npt.NDArray[np.float64] = logits_NC - logits_NC.max(axis=1, keepdims=True)
    return gap_NC
