"""Logistic regression with an L2 penalty, for classes that exclude each other and for labels that do not.

Shapes: N rows, K dimensions, C classes or labels.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from finetune.whitening import Floats

MOST_ITERATIONS = 10_000


class Weights(NamedTuple):
    """``iterations`` is how many it took."""

    weight_CK: Floats
    bias_C: Floats
    iterations: int

    def logits(self, features_NK: Floats) -> Floats:
        """``(N, C)``."""
        logits_NC: Floats = features_NK @ self.weight_CK.T + self.bias_C
        return logits_NC


def fit_logistic(
    features_NK: Floats,
    wanted_NC: Floats,
    *,
    activation: Literal["softmax", "sigmoid"],
    c: float,
    tolerance: float,
    start: Weights | None = None,
) -> Weights:
    """Minimises ``sum of losses + |weights|^2 / (2 c)`` by L-BFGS; products are computed in the features' precision.

    With the sigmoid the labels are one-vs-rest regressions, which have nothing in common: all are fitted at once, because
    one product with many columns takes less time than many with one.

    Args:
        features_NK: whitened rows.
        wanted_NC: 1 where a row has a class, 0 elsewhere.
        activation: what the loss is the logarithm of.
        c: the prior variance of a weight.
        tolerance: of the largest slope of the mean loss.
        start: weights that are near; zeros without.
    """
    from scipy.optimize import minimize

    rows, width = features_NK.shape
    classes = wanted_NC.shape[1]
    precision = features_NK.dtype

    def loss(parameters: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        weight_CK, bias_C = parameters[: classes * width].reshape(classes, width), parameters[classes * width :]
        logits_NC = features_NK @ weight_CK.T.astype(precision) + bias_C.astype(precision)
        value, slope_NC = _LOSSES[activation](logits_NC, wanted_NC)
        slope_CK = (slope_NC.T @ features_NK).astype(np.float64) / rows + weight_CK / (c * rows)
        slope_C = slope_NC.sum(axis=0, dtype=np.float64) / rows
        penalty = float(np.square(weight_CK).sum()) / (2 * c * rows)
        return value / rows + penalty, np.concatenate([slope_CK.ravel(), slope_C])

    if start is None:
        start = Weights(np.zeros((classes, width)), np.zeros(classes), 0)
    found = minimize(
        loss,
        np.concatenate([start.weight_CK.ravel(), start.bias_C]).astype(np.float64),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": MOST_ITERATIONS, "maxfun": 2 * MOST_ITERATIONS, "gtol": tolerance, "ftol": 1e-12},
    )
    return Weights(
        weight_CK=found.x[: classes * width].reshape(classes, width),
        bias_C=found.x[classes * width :],
        iterations=int(found.nit),
    )


def _cross_entropy(logits_NC: Floats, wanted_NC: Floats) -> tuple[float, Floats]:
    """Summed loss of a softmax, and its slope."""
    logits_NC -= logits_NC.max(axis=1, keepdims=True)
    power_NC = np.exp(logits_NC)
    sum_N1 = power_NC.sum(axis=1, keepdims=True)
    value = float((np.log(sum_N1[:, 0]) - (logits_NC * wanted_NC).sum(axis=1)).sum(dtype=np.float64))
    return value, power_NC / sum_N1 - wanted_NC


def _binary_cross_entropy(logits_NC: Floats, wanted_NC: Floats) -> tuple[float, Floats]:
    """Summed loss of sigmoids, and its slope."""
    value = float((np.logaddexp(0, logits_NC) - logits_NC * wanted_NC).sum(dtype=np.float64))
    return value, (np.tanh(logits_NC / 2) + 1) / 2 - wanted_NC


_LOSSES: dict[str, Any] = {"softmax": _cross_entropy, "sigmoid": _binary_cross_entropy}
