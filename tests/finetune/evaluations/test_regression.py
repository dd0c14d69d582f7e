from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.evaluations.evaluation import Measured
from finetune.evaluations.regression import evaluate_regression


def evaluated(rows: int, *, skill: float, seed: int = 0) -> tuple[Measured, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    wanted_N = random.normal(size=rows)
    found_N = skill * wanted_N + random.normal(size=rows)
    return evaluate_regression(found_N, wanted_N, interval=1.0, seed=seed), found_N, wanted_N


@settings(max_examples=15, deadline=None)
@given(st.integers(3, 80), st.floats(0, 5), st.integers(0, 2**32))
def test_scores_agree_with_scipy_and_scikit_learn(rows: int, skill: float, seed: int) -> None:
    from scipy.stats import pearsonr, spearmanr
    from sklearn import metrics

    found, found_N, wanted_N = evaluated(rows, skill=skill, seed=seed)
    assert found.metrics["spearman"] == pytest.approx(spearmanr(found_N, wanted_N).statistic)
    assert found.metrics["pearson"] == pytest.approx(pearsonr(found_N, wanted_N).statistic)
    assert found.metrics["mae"] == pytest.approx(metrics.mean_absolute_error(wanted_N, found_N))
    assert found.metrics["r2"] == pytest.approx(metrics.r2_score(wanted_N, found_N))
    assert found.metrics["coverage"] == np.mean(np.abs(found_N - wanted_N) <= 1.0)
    for name, value in found.metrics.items():
        assert found.intervals[name].low <= value <= found.intervals[name].high
    json.dumps(found.to_dict(), allow_nan=False)


def test_skill_beats_chance_and_luck_does_not() -> None:
    assert evaluated(300, skill=1)[0].beats_chance
    assert not evaluated(300, skill=0)[0].beats_chance


def test_values_that_are_all_the_same_correlate_with_nothing() -> None:
    found = evaluate_regression(np.ones(20), np.arange(20.0), interval=3.0, seed=0)
    assert (found.metrics["spearman"], found.metrics["pearson"]) == (0.0, 0.0)
    assert not found.beats_chance
    same = evaluate_regression(np.arange(20.0), np.ones(20), interval=3.0, seed=0)
    assert np.isfinite(list(same.metrics.values())).all()


def test_shapes_that_do_not_fit_are_refused() -> None:
    for found, wanted in ((0, 0), (3, 2)):
        with pytest.raises(ValueError, match="do not fit"):
            evaluate_regression(np.zeros(found), np.zeros(wanted), interval=1.0, seed=0)
