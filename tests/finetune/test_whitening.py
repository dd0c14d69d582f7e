from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.whitening import ClassCovariance, Floats, Targets


def classes(rows: int, dimensions: int, *, count: int = 3, seed: int = 0) -> tuple[Floats, Targets]:
    """Rows whose dimensions differ in scale by a factor of 100, around one centre a class."""
    random = np.random.default_rng(seed)
    targets_N = np.arange(rows) % count
    centres_CD = random.normal(size=(count, dimensions))
    scale_D = np.logspace(-1, 1, dimensions)
    return centres_CD[targets_N] + random.normal(size=(rows, dimensions)) * scale_D + 7, targets_N


def whitened(features_ND: Floats, targets_N: Targets, shrinkage: float) -> Floats:
    covariance = ClassCovariance.of(features_ND, targets_N)
    result: Floats = (features_ND - covariance.mean_D) @ covariance.whitening(shrinkage)
    return result


def within(features_ND: Floats, targets_N: Targets) -> Floats:
    means_CD = np.stack([features_ND[targets_N == target].mean(axis=0) for target in np.unique(targets_N)])
    centred_ND = features_ND - means_CD[targets_N]
    covariance_DD: Floats = centred_ND.T @ centred_ND / len(features_ND)
    return covariance_DD


def test_without_shrinkage_classes_become_round() -> None:
    features_ND, targets_N = classes(400, 6)
    covariance_KK = within(whitened(features_ND, targets_N, 1e-9), targets_N)
    average = covariance_KK.trace() / 6
    np.testing.assert_allclose(covariance_KK, average * np.eye(6), atol=average * 1e-2)


def test_full_shrinkage_only_turns_and_scales() -> None:
    features_ND, targets_N = classes(400, 6)
    before_ND, after_NK = features_ND - features_ND.mean(axis=0), whitened(features_ND, targets_N, 1.0)
    products_NN, turned_NN = before_ND @ before_ND.T, after_NK @ after_NK.T
    np.testing.assert_allclose(turned_NN * np.trace(products_NN) / 400, products_NN, atol=1e-8)


@given(st.integers(2, 40), st.integers(1, 12), st.integers(2, 4), st.sampled_from([0.1, 0.5, 1.0]), st.integers(0, 9))
def test_rows_get_a_mean_squared_length_of_one(
    rows: int, dimensions: int, count: int, shrinkage: float, seed: int
) -> None:
    features_ND, targets_N = classes(rows, dimensions, count=count, seed=seed)
    whitened_NK = whitened(features_ND, targets_N, shrinkage)
    assert whitened_NK.shape == (rows, min(rows, dimensions))
    assert np.square(whitened_NK).sum(axis=1).mean() == pytest.approx(1.0)


def test_fewer_rows_than_dimensions_give_what_the_whole_space_would_give() -> None:
    features_ND, targets_N = classes(30, 12)
    padded_ND = np.concatenate([features_ND, np.zeros((30, 100))], axis=1)
    narrow, wide = ClassCovariance.of(features_ND, targets_N), ClassCovariance.of(padded_ND, targets_N)
    assert wide.directions_DK.shape == (112, 30)
    # The average variance is over all dimensions, so the same covariance takes another shrinkage: s / 112 here, s' / 12
    # there, each against 1 - s.
    shrinkage, share = 0.5, 12 / 112
    same = share / (share + 1)
    one_NK = (features_ND - narrow.mean_D) @ narrow.whitening(same)
    other_NK = (padded_ND - wide.mean_D) @ wide.whitening(shrinkage)
    np.testing.assert_allclose(other_NK @ other_NK.T, one_NK @ one_NK.T, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_classes_that_are_single_points_stay_finite(dtype: type[np.floating[Any]]) -> None:
    targets_N = np.arange(20) % 2
    features_ND = np.stack([np.full(20, 3.0), targets_N * 2.0 - 1.0, np.zeros(20)], axis=1).astype(dtype)
    whitened_NK = whitened(features_ND, targets_N, 0.5)
    assert whitened_NK.dtype == dtype
    np.testing.assert_allclose(np.square(whitened_NK).sum(axis=1), 1.0, rtol=1e-5)


def test_rows_that_are_all_equal_become_zero() -> None:
    whitened_NK = whitened(np.full((10, 4), 0.1, dtype=np.float32), np.arange(10) % 2, 0.5)
    np.testing.assert_array_equal(whitened_NK, 0.0)
