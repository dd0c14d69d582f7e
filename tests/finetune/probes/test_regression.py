from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge as ReferenceRidge

from finetune.probes.pairs import block_scales, unscaled
from finetune.probes.probe import Probe, head_of
from finetune.probes.regression import Ridge, conformal, fit_regression
from finetune.probes.search import Place
from finetune.task_fit import logits_of
from finetune.whitening import ClassCovariance

Features = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]


def slopes(rows: int, seed: int = 0, noise: float = 1.0) -> tuple[Features, Values]:
    """Prices: a hundred, and a few units for each feature."""
    random = np.random.default_rng(seed)
    features_ND = random.normal(size=(rows, 12)).astype(np.float32)
    weight_D = np.random.default_rng(7).normal(size=12)
    return features_ND, 100 + 3 * features_ND @ weight_D + random.normal(scale=noise, size=rows)


def fitted(features_ND: Features, values_N: Values) -> Probe:
    return fit_regression(features_ND, values_N, np.arange(len(values_N)) % 5)


def test_values_are_predicted_and_the_interval_holds_nine_of_ten() -> None:
    probe = fitted(*slopes(400))
    new_ND, wanted_N = slopes(4000, seed=1)
    found_N = logits_of(probe.head, new_ND)[:, 0]
    assert np.sqrt(np.mean((found_N - wanted_N) ** 2)) < 1.1
    assert probe.chosen.loss == pytest.approx(1.0, abs=0.2)
    assert probe.chosen.score > 0.9
    interval = probe.chosen.calibration.interval
    assert interval is not None
    assert np.mean(np.abs(found_N - wanted_N) <= interval) == pytest.approx(0.9, abs=0.03)


def test_another_unit_changes_nothing_but_the_unit() -> None:
    features_ND, values_N = slopes(100)
    one, other = fitted(features_ND, values_N), fitted(features_ND, values_N * 1000)
    assert one.chosen.settings == other.chosen.settings
    np.testing.assert_allclose(other.head.weight_CD, one.head.weight_CD * 1000, rtol=1e-4)


@pytest.mark.parametrize("rows", [6, 80])
def test_the_head_is_ridge_regression_on_whitened_features(rows: int) -> None:
    features_ND, values_N = slopes(rows)
    exact_ND = features_ND.astype(np.float64)
    weight_D, bias = Ridge(exact_ND, values_N).fit(Place(shrinkage=0.75, c=10.0))
    covariance = ClassCovariance.around(exact_ND, values_N[:, None])
    whitened_NK = (exact_ND - covariance.mean_D) @ covariance.whitening(0.75)
    model = ReferenceRidge(alpha=0.1).fit(whitened_NK, values_N)
    np.testing.assert_allclose(exact_ND @ weight_D + bias, model.predict(whitened_NK), rtol=1e-6)


def test_shuffled_values_are_reported_as_chance() -> None:
    features_ND, values_N = slopes(400)
    probe = fitted(features_ND, np.random.default_rng(0).permutation(values_N))
    assert abs(probe.chosen.score) < 0.15
    assert probe.chosen.loss == pytest.approx(values_N.var(), rel=0.1)


@given(st.integers(1, 200), st.integers(0, 5))
def test_at_most_one_of_ten_new_residuals_is_larger(rows: int, seed: int) -> None:
    residuals_H = np.random.default_rng(seed).random(rows)
    interval = conformal(residuals_H)
    assert interval in residuals_H
    assert np.mean(residuals_H <= interval) >= 0.9


def test_blocks_of_a_pair_have_an_equal_say_and_the_head_reads_them_as_they_are() -> None:
    random = np.random.default_rng(0)
    vectors_VD = (random.normal(size=(50, 8)) * np.repeat([1, 1, 0.5, 0.01], 2)).astype(np.float32)
    scales_D = block_scales(vectors_VD)
    np.testing.assert_allclose(np.square(vectors_VD * scales_D).reshape(50, 4, 2).mean(axis=(0, 2)), 1, rtol=1e-5)
    head = head_of(random.normal(size=(3, 8)), random.normal(size=3), "softmax")
    np.testing.assert_allclose(
        logits_of(unscaled(head, scales_D), vectors_VD), logits_of(head, vectors_VD * scales_D), rtol=1e-4
    )
    assert block_scales(np.zeros((2, 8), dtype=np.float32)).tolist() == [1.0] * 8
