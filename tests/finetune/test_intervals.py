from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.intervals import bootstrap, percentile, wilson

counts = st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
confidences = st.floats(0.01, 0.999)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_values_of_newcombe_1998_table_1(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(counts, confidences)
def test_wilson_holds_the_share_within_0_and_1(count: tuple[int, int], confidence: float) -> None:
    successes, n = count
    low, high = wilson(successes, n, confidence)
    assert 0 <= low <= successes / n <= high <= 1


@given(counts, st.integers(2, 100))
def test_wilson_shrinks_with_more_rows_of_the_same_share(count: tuple[int, int], times: int) -> None:
    successes, n = count
    few, many = wilson(successes, n), wilson(successes * times, n * times)
    assert many.high - many.low < few.high - few.low


@given(counts, confidences)
def test_wilson_of_the_failures_is_the_mirror_image(count: tuple[int, int], confidence: float) -> None:
    successes, n = count
    low, high = wilson(successes, n, confidence)
    assert wilson(n - successes, n, confidence) == pytest.approx((1 - high, 1 - low), abs=1e-12)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_impossible_counts(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="0 <= successes <= n"):
        wilson(successes, n)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0, float("nan")])
def test_confidence_is_a_share(confidence: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        wilson(1, 2, confidence)
    with pytest.raises(ValueError, match="between 0 and 1"):
        percentile(0.5, np.array([0.5]), confidence)


def mean_and_largest(values_N: np.ndarray):
    return lambda rows_RN: np.stack([values_N[rows_RN].mean(axis=1), values_N[rows_RN].max(axis=1)], axis=1)


def test_the_bootstrap_of_a_mean_agrees_with_normal_theory() -> None:
    values_N = np.random.default_rng(1).normal(10, 2, size=400)
    resampled = bootstrap(mean_and_largest(values_N), 400, seed=0, resamples=4000)
    mean = values_N.mean()
    half = 1.96 * values_N.std() / 20
    assert percentile(mean, resampled[:, 0]) == pytest.approx((mean - half, mean + half), abs=0.02)


@pytest.mark.parametrize("rows", [1, 3, 300_000, 1_500_000])
def test_the_bootstrap_gives_every_resample_however_many_rows_there_are(rows: int) -> None:
    shapes = []

    def statistics(rows_RN: np.ndarray) -> np.ndarray:
        assert 0 <= rows_RN.min() <= rows_RN.max() < rows
        shapes.append(rows_RN.shape)
        return np.ones((len(rows_RN), 2))

    assert bootstrap(statistics, rows, seed=0, resamples=4).shape == (4, 2)
    assert sum(part for part, _ in shapes) == 4
    assert all(part * drawn <= max(1_000_000, rows) and drawn == rows for part, drawn in shapes)


def test_the_bootstrap_depends_on_the_seed_alone() -> None:
    statistics = mean_and_largest(np.arange(50.0))
    first, again, other = (bootstrap(statistics, 50, seed=seed, resamples=10) for seed in (7, 7, 8))
    assert (first == again).all()
    assert (first != other).any()


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.floats(-1e6, 1e6), confidences)
def test_percentile_holds_the_estimate(resampled: list[float], estimate: float, confidence: float) -> None:
    low, high = percentile(estimate, np.array(resampled), confidence)
    assert min(estimate, *resampled) <= low <= estimate <= high <= max(estimate, *resampled)


def test_percentile_cuts_the_tails() -> None:
    assert percentile(50.0, np.arange(101.0), 0.9) == pytest.approx((5, 95))
