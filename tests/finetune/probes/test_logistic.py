from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from finetune.probes.logistic import Weights, fit_logistic, fit_whitened
from finetune.whitening import ClassCovariance
from tests.finetune.probes.blobs import blobs


def test_the_softmax_is_scikit_learns() -> None:
    features_ND, targets_N = blobs(150, spread=1.5)
    exact_ND = features_ND.astype(np.float64)
    found = fit_logistic(exact_ND, np.eye(4)[targets_N], activation="softmax", c=0.3, tolerance=1e-8)
    model = LogisticRegression(C=0.3, tol=1e-8, max_iter=1000).fit(exact_ND, targets_N)
    np.testing.assert_allclose(found.weight_CK, model.coef_, atol=1e-4)


def test_each_label_of_the_sigmoid_is_scikit_learns() -> None:
    features_ND, targets_N = blobs(150, spread=1.5)
    exact_ND = features_ND.astype(np.float64)
    wanted_NL = np.column_stack([targets_N < 1, targets_N % 2, targets_N > 0]).astype(np.float64)
    found = fit_logistic(exact_ND, wanted_NL, activation="sigmoid", c=2.0, tolerance=1e-8)
    for label in range(3):
        model = LogisticRegression(C=2.0, tol=1e-8, max_iter=1000).fit(exact_ND, wanted_NL[:, label])
        np.testing.assert_allclose(found.weight_CK[label], model.coef_[0], atol=1e-3)
        assert found.bias_C[label] == pytest.approx(model.intercept_[0], abs=1e-3)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_near_weights_take_fewer_steps_to_the_same_end(activation: Literal["softmax", "sigmoid"]) -> None:
    features_ND, targets_N = blobs(300, spread=1.5)
    wanted_NC = np.eye(4, dtype=np.float32)[targets_N]
    cold = fit_logistic(features_ND, wanted_NC, activation=activation, c=1.0, tolerance=1e-5)
    start = Weights(cold.weight_CK * 0.99, cold.bias_C, 0)
    warm = fit_logistic(features_ND, wanted_NC, activation=activation, c=1.0, tolerance=1e-5, start=start)
    assert warm.iterations < cold.iterations
    np.testing.assert_allclose(warm.logits(features_ND), cold.logits(features_ND), atol=0.05)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_row_of_weight_three_counts_as_three_rows(activation: Literal["softmax", "sigmoid"]) -> None:
    features_ND, targets_N = blobs(90, spread=1.5)
    exact_ND, wanted_NC = features_ND.astype(np.float64), np.eye(4)[targets_N]
    weight_N = np.where(targets_N == 0, 3.0, 1.0)
    times_N = weight_N.astype(int)
    weighted = fit_logistic(exact_ND, wanted_NC, activation=activation, c=1.0, tolerance=1e-9, weight_N=weight_N)
    rows_MD, wanted_MC = np.repeat(exact_ND, times_N, axis=0), np.repeat(wanted_NC, times_N, axis=0)
    repeated = fit_logistic(rows_MD, wanted_MC, activation=activation, c=1.0, tolerance=1e-9)
    np.testing.assert_allclose(weighted.logits(exact_ND), repeated.logits(exact_ND), atol=1e-3)


def test_whitened_fits_start_where_weights_of_the_features_say() -> None:
    features_ND, targets_N = blobs(200, spread=1.5)
    exact_ND = features_ND.astype(np.float64)
    covariance = ClassCovariance.of(exact_ND, targets_N)

    def fit(shrinkage: float, start: Weights | None) -> Weights:
        return fit_whitened(
            exact_ND,
            np.eye(4)[targets_N],
            covariance,
            shrinkage=shrinkage,
            activation="softmax",
            c=1.0,
            tolerance=1e-6,
            start=start,
        )

    cold = fit(0.5, None)
    again = fit(0.5, cold)
    assert again.iterations <= 2
    np.testing.assert_allclose(again.logits(exact_ND), cold.logits(exact_ND), atol=1e-4)
    assert fit(0.75, cold).iterations < fit(0.75, None).iterations
