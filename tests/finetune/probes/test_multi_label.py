from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from finetune.evaluations.multi_label import macro_f1
from finetune.probes.multi_label import best_threshold, fit_multi_label
from finetune.probes.probe import Probe
from finetune.task_fit import scores_of

Features = npt.NDArray[np.float32]
Wanted = npt.NDArray[np.bool_]


def lights(rows: int, seed: int = 0, noise: float = 0.5) -> tuple[Features, Wanted]:
    """Rows are the sum of what their labels add to them; the third label is rare."""
    random = np.random.default_rng(seed)
    wanted_NL = random.random((rows, 3)) < (0.5, 0.3, 0.05)
    directions_LD = np.random.default_rng(7).normal(size=(3, 16))
    features_ND = wanted_NL @ directions_LD + random.normal(scale=noise, size=(rows, 16))
    return features_ND.astype(np.float32), wanted_NL


def fitted(features_ND: Features, wanted_NL: Wanted) -> Probe:
    return fit_multi_label(features_ND, wanted_NL, np.arange(len(features_ND)) % 5)


def scores(probe: Probe, features_ND: Features) -> npt.NDArray[np.float64]:
    return scores_of(probe.head, features_ND, probe.chosen.calibration.temperature)


def test_every_label_is_found_and_its_scores_are_probabilities() -> None:
    probe = fitted(*lights(600))
    new_ND, wanted_NL = lights(4000, seed=1)
    scores_NL = scores(probe, new_ND)
    threshold = probe.chosen.calibration.threshold
    assert threshold is not None
    found = macro_f1(scores_NL >= threshold, wanted_NL)
    assert found > 0.9
    assert found == pytest.approx(probe.chosen.score, abs=0.06)
    np.testing.assert_allclose(scores_NL.mean(axis=0), wanted_NL.mean(axis=0), atol=0.03)
    assert probe.converged


def test_equal_arguments_give_equal_bytes() -> None:
    assert fitted(*lights(200)).head.to_bytes() == fitted(*lights(200)).head.to_bytes()


def test_the_threshold_is_the_best_of_all() -> None:
    random = np.random.default_rng(0)
    wanted_NL = random.random((200, 4)) < 0.2
    scores_NL = (0.3 * wanted_NL + 0.5 * random.random((200, 4))).clip(0, 1)
    threshold, score = best_threshold(scores_NL, wanted_NL)
    every = [macro_f1(scores_NL >= each / 100, wanted_NL) for each in range(1, 100)]
    assert score == max(every)
    assert every[round(threshold * 100) - 1] == score


def test_where_the_threshold_does_not_matter_it_is_a_half() -> None:
    assert best_threshold(np.array([[1.0], [0.0]]), np.array([[True], [False]])) == (0.5, 1.0)


def test_shuffled_labels_are_reported_as_chance() -> None:
    features_ND, wanted_NL = lights(600)
    probe = fitted(features_ND, np.random.default_rng(0).permutation(wanted_NL))
    share_L = wanted_NL.mean(axis=0)
    always = (2 * share_L / (1 + share_L)).mean()  # macro F1 of saying every label of every row
    assert probe.chosen.score < always + 0.05


def test_a_label_that_a_fold_cannot_learn_is_no_reason_to_fail() -> None:
    features_ND, wanted_NL = lights(40)
    wanted_NL[:, 2] = False
    wanted_NL[7, 2] = True
    probe = fitted(features_ND, wanted_NL)
    assert scores(probe, features_ND)[:, 2].max() < 0.5 or probe.head.weight_CD[2].abs().sum() > 0
