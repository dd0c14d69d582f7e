"""Logistic regression with an L2 penalty, for classes that exclude each other and for labels that do not.

Shapes: N rows, K dimensions, C classes or labels.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from finetune.whitening import ClassCovariance, Floats

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
    weight_N: Floats | None = None,
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
        weight_N: what each row's loss is multiplied by; 1 without.
    """
    from scipy.optimize import minimize

    rows, width = features_NK.shape
    classes = wanted_NC.shape[1]
    precision = features_NK.dtype

    def loss(parameters: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        weight_CK, bias_C = parameters[: classes * width].reshape(classes, width), parameters[classes * width :]
        logits_NC = features_NK @ weight_CK.T.astype(precision) + bias_C.astype(precision)
        loss_N, slope_NC = _LOSSES[activation](logits_NC, wanted_NC)
        if weight_N is not None:
            loss_N = loss_N * weight_N
            slope_NC *= weight_N[:, None]
        value = float(loss_N.sum(dtype=np.float64))
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


def fit_whitened(
    features_ND: Floats,
    wanted_NC: Floats,
    covariance: ClassCovariance,
    *,
    shrinkage: float,
    activation: Literal["softmax", "sigmoid"],
    c: float,
    tolerance: float,
    start: Weights | None = None,
    weight_N: Floats | None = None,
) -> Weights:
    """`fit_logistic` on whitened features, as weights of the features themselves.

    Args:
        features_ND: as they come from the backbone.
        covariance, shrinkage: what they are whitened by.
        start: weights of the features themselves that are near.
        wanted_NC, activation, c, tolerance, weight_N: as in `fit_logistic`.
    """
    whitening_DK = covariance.whitening(shrinkage)
    if start is not None:  # the columns of the map are orthogonal, so this is its inverse
        weight_CK = start.weight_CK @ whitening_DK / np.square(whitening_DK).sum(axis=0)
        start = Weights(weight_CK, start.bias_C + start.weight_CK @ covariance.mean_D, 0)
    found = fit_logistic(
        (features_ND - covariance.mean_D) @ whitening_DK,
        wanted_NC,
        activation=activation,
        c=c,
        tolerance=tolerance,
        start=start,
        weight_N=weight_N,
    )
    weight_CD = found.weight_CK @ whitening_DK.T
    return Weights(weight_CD, found.bias_C - weight_CD @ covariance.mean_D, found.iterations)


def _cross_entropy(logits_NC: Floats, wanted_NC: Floats) -> tuple[Floats, Floats]:
    """Loss of each row through a softmax, and its slope; the logits are lost."""
    logits_NC -= logits_NC.max(axis=1, keepdims=True)
    wanted_N = (logits_NC * wanted_NC).sum(axis=1)
    np.exp(logits_NC, out=logits_NC)
    sum_N1 = logits_NC.sum(axis=1, keepdims=True)
    logits_NC /= sum_N1
    logits_NC -= wanted_NC
    loss_N: Floats = np.log(sum_N1[:, 0]) - wanted_N
    return loss_N, logits_NC


def _binary_cross_entropy(logits_NC: Floats, wanted_NC: Floats) -> tuple[Floats, Floats]:
    """Loss of each row through sigmoids, summed over its labels, and its slope."""
    loss_N: Floats = (np.logaddexp(0, logits_NC) - logits_NC * wanted_NC).sum(axis=1)
    return loss_N, (np.tanh(logits_NC / 2) + 1) / 2 - wanted_NC


_LOSSES: dict[str, Any] = {"softmax": _cross_entropy, "sigmoid": _binary_cross_entropy}
