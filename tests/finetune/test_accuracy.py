"""The bar on real data: no worse than a standard recipe on the same features. All six sets: ``make accuracy``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.accuracy import BASELINES, learn, standard_error


@pytest.mark.parametrize("name", ["clothing10", "grocery12"])
def test_defaults_reach_the_baseline_within_one_standard_error(shared_data: Path, tmp_path: Path, name: str) -> None:
    evaluation = learn(shared_data / name, tmp_path).evaluation
    assert evaluation.accuracy >= BASELINES[name] - standard_error(BASELINES[name], evaluation.rows)
    assert evaluation.ece < 0.1
