from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.evaluations.evaluation import Measured
from finetune.evaluations.multi_label import evaluate_multi_label


def answers(rows: int, labels: int, skill: float, seed: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    random = np.random.default_rng(seed)
    wanted_NL = random.random((rows, labels)) < 0.3
    return 1 / (1 + np.exp(-(random.normal(size=(rows, labels)) + skill * (wanted_NL - 0.5)))), wanted_NL


def evaluated(rows: int, labels: int, *, skill: float, seed: int = 0) -> Measured:
    scores_NL, wanted_NL = answers(rows, labels, skill, seed)
    classes = [f"label {i}" for i in range(labels)]
    return evaluate_multi_label(scores_NL, wanted_NL, threshold=0.5, classes=classes, seed=seed)


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 60), st.integers(2, 5), st.floats(0, 6), st.integers(0, 2**32))
def test_scores_agree_with_scikit_learn(rows: int, labels: int, skill: float, seed: int) -> None:
    from sklearn import metrics

    scores_NL, wanted_NL = answers(rows, labels, skill, seed)
    said_NL = scores_NL >= 0.5
    found = evaluated(rows, labels, skill=skill, seed=seed)
    occurring = [i for i in range(labels) if (said_NL | wanted_NL)[:, i].any()]
    f1 = metrics.f1_score(wanted_NL, said_NL, average=None, zero_division=0)
    assert found.metrics["macro_f1"] == pytest.approx(np.mean(f1[occurring]) if occurring else 0)
    micro = metrics.f1_score(wanted_NL, said_NL, average="micro", zero_division=0)
    assert found.metrics["micro_f1"] == pytest.approx(micro)
    assert found.metrics["exact_match"] == pytest.approx(metrics.accuracy_score(wanted_NL, said_NL))
    held = [i for i in range(labels) if wanted_NL[:, i].any()]
    precision = [metrics.average_precision_score(wanted_NL[:, i], scores_NL[:, i]) for i in held]
    assert found.metrics["mean_average_precision"] == pytest.approx(np.mean(precision) if held else 0)
    for name, value in found.metrics.items():
        assert found.intervals[name].low <= value <= found.intervals[name].high
    assert [scores.f1 for scores in found.per_class] == pytest.approx(f1.tolist())


def test_skill_beats_chance_and_luck_does_not() -> None:
    assert evaluated(300, 4, skill=4).beats_chance
    for seed in range(5):
        assert not evaluated(300, 4, skill=0, seed=seed).beats_chance


def test_scores_as_high_as_labels_are_frequent_are_calibrated() -> None:
    random = np.random.default_rng(0)
    scores_NL = random.random((3000, 3))
    wanted_NL = random.random((3000, 3)) < scores_NL
    honest = evaluate_multi_label(scores_NL, wanted_NL, threshold=0.5, classes="abc", seed=0)
    boasting = evaluate_multi_label(scores_NL**0.3, wanted_NL, threshold=0.5, classes="abc", seed=0)
    assert honest.metrics["ece"] < 0.03 < 0.15 < boasting.metrics["ece"]


def test_the_dict_is_plain_json_and_a_rare_label_is_not_hidden() -> None:
    """One row in ten thousand has the label, and nobody says so: nothing but its own figures tell."""
    wanted_NL = np.zeros((10_000, 1), dtype=np.bool_)
    wanted_NL[5] = True
    found = evaluate_multi_label(wanted_NL * 0.0, wanted_NL, threshold=0.5, classes=["rare"], seed=0)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain == found.to_dict()
    assert plain["exact_match"] == 0.9999
    assert plain["macro_f1"] == 0.0
    assert plain["per_class"][0]["support"] == 1
    assert not plain["beats_chance"]


def test_shapes_that_do_not_fit_are_refused() -> None:
    for rows, columns in ((0, 2), (3, 1)):
        with pytest.raises(ValueError, match="2 labels need"):
            evaluate_multi_label(
                np.zeros((rows, columns)), np.zeros((rows, columns), dtype=bool), threshold=0.5, classes="ab", seed=0
            )
