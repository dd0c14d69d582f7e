from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from finetune.probes.folds import assign_folds
from finetune.probes.mlp import MLP_ROWS
from finetune.probes.probe import Probe
from finetune.probes.search import REGULARISATION_CS, SHRINKAGES
from finetune.probes.single_label import fit_single_label
from finetune.whitening import ClassCovariance
from models.errors import DatasetInvalid
from models.head import scores_by_head
from tests.finetune.probes.blobs import Features, Targets, blobs


def predicted(probe: Probe, features_ND: Features) -> npt.NDArray[np.float64]:
    """Probabilities ``(N, C)``."""
    logits_NC = features_ND.astype(np.float64) @ probe.head.weight_CD.numpy().T + probe.head.bias_C.numpy()
    power_NC = np.exp((logits_NC - logits_NC.max(axis=1, keepdims=True)) / probe.chosen.calibration.temperature)
    return np.asarray(power_NC / power_NC.sum(axis=1, keepdims=True))


def test_a_head_is_right_on_new_rows_and_as_sure_as_it_is_right() -> None:
    features_ND, targets_N = blobs(200)
    probe = fit_single_label(features_ND, targets_N, class_count=4, seed=0)
    new_ND, new_N = blobs(2000)
    scores_NC = predicted(probe, new_ND)
    accuracy = np.mean(scores_NC.argmax(axis=1) == new_N)
    assert accuracy > 0.95
    assert accuracy == pytest.approx(probe.chosen.score, abs=0.03)
    assert scores_NC.max(axis=1).mean() == pytest.approx(accuracy, abs=0.03)
    assert probe.converged
    assert probe.folds == 5


def test_equal_arguments_give_equal_bytes_whatever_the_number_of_threads() -> None:
    features_ND, targets_N = blobs(300, dimensions=40)
    probes = [fit_single_label(features_ND, targets_N, class_count=4, seed=3, threads=threads) for threads in (1, 1, 4)]
    assert len({probe.head.to_bytes() for probe in probes}) == 1
    assert all(probe.candidates == probes[0].candidates for probe in probes)


def test_the_chosen_candidate_has_the_lowest_loss_and_its_neighbours_were_tried() -> None:
    features_ND, targets_N = blobs(120, spread=1.5)
    probe = fit_single_label(features_ND, targets_N, class_count=4, seed=0)
    linear = [one for one in probe.candidates if "head" not in one.settings and "class_weight" not in one.settings]
    assert probe.chosen == min(linear, key=lambda candidate: candidate.loss)
    tried = {(one.settings["feature_scaling"], one.settings["regularisation_c"]) for one in linear}
    assert len(tried) == len(linear)
    assert tried <= set(itertools.product([f"whiten-{each:g}" for each in SHRINKAGES], REGULARISATION_CS))


def test_the_head_is_logistic_regression_on_whitened_features() -> None:
    features_ND, targets_N = blobs(150, spread=1.5)
    probe = fit_single_label(features_ND, targets_N, class_count=4, seed=0)
    exact_ND = features_ND.astype(np.float64)
    covariance = ClassCovariance.of(exact_ND, targets_N)
    whitened_NK = (exact_ND - covariance.mean_D) @ covariance.whitening(
        float(str(probe.chosen.settings["feature_scaling"]).split("-")[1])
    )
    model = LogisticRegression(C=probe.chosen.settings["regularisation_c"], tol=1e-8, max_iter=1000).fit(
        whitened_NK, targets_N
    )
    logits_NC = exact_ND @ probe.head.weight_CD.numpy().T + probe.head.bias_C.numpy()
    difference_NC = logits_NC - model.decision_function(whitened_NK)
    np.testing.assert_allclose(difference_NC, difference_NC.mean(axis=1, keepdims=True) + 0 * difference_NC, atol=1e-3)


def test_a_shift_and_a_scale_of_the_features_change_no_answer() -> None:
    features_ND, targets_N = blobs(150, spread=1.5)
    moved_ND = features_ND * np.float32(64) + np.float32(32)
    one = predicted(fit_single_label(features_ND, targets_N, class_count=4, seed=0), features_ND)
    other = predicted(fit_single_label(moved_ND, targets_N, class_count=4, seed=0), moved_ND)
    np.testing.assert_allclose(one, other, atol=1e-3)


def test_directions_that_vary_within_classes_are_held_back() -> None:
    features_ND, targets_N = blobs(80, dimensions=24, spread=0.5)
    features_ND[:, :12] += np.random.default_rng(0).normal(scale=6, size=(80, 12)).astype(np.float32)
    probe = fit_single_label(features_ND, targets_N, class_count=4, seed=0)
    assert probe.chosen.settings["feature_scaling"] != "whiten-1"
    assert probe.chosen.score > 0.9


def test_two_classes_get_two_opposite_rows() -> None:
    features_ND, targets_N = blobs(100, classes=2, spread=1.5)
    probe = fit_single_label(features_ND, targets_N, class_count=2, seed=0)
    weight_CD = probe.head.weight_CD.numpy()
    assert weight_CD.shape == (2, 12)
    np.testing.assert_array_equal(weight_CD[0], -weight_CD[1])
    new_ND, new_N = blobs(1000, classes=2, spread=1.5)
    assert np.mean(predicted(probe, new_ND).argmax(axis=1) == new_N) > 0.8


def test_shuffled_labels_are_reported_as_chance() -> None:
    features_ND, targets_N = blobs(400)
    shuffled_N = np.random.default_rng(0).permutation(targets_N)
    probe = fit_single_label(features_ND, shuffled_N, class_count=4, seed=0)
    assert probe.chosen.score == pytest.approx(0.25, abs=0.08)
    assert probe.chosen.loss == pytest.approx(np.log(4), abs=0.02)


def test_a_class_with_one_row_is_learned_and_never_held_out() -> None:
    features_ND, targets_N = blobs(41)
    targets_N[:40], targets_N[40] = np.arange(40) % 4, 4
    features_ND[40] = 5.0
    fold_N = assign_folds(features_ND, targets_N, folds=5, seed=0)
    assert fold_N[40] == -1
    assert sorted(set(fold_N[:40])) == [0, 1, 2, 3, 4]
    probe = fit_single_label(features_ND, targets_N, class_count=5, seed=0)
    assert predicted(probe, features_ND[40:]).argmax() == 4


def test_classes_of_one_row_each_cannot_be_cross_validated() -> None:
    features_ND, targets_N = blobs(3, classes=3)
    with pytest.raises(DatasetInvalid, match="two different examples"):
        fit_single_label(features_ND, targets_N, class_count=3, seed=0)
    copies_ND, copies_N = np.repeat(features_ND, 5, axis=0), np.repeat(targets_N, 5)
    with pytest.raises(DatasetInvalid, match="two different examples"):
        fit_single_label(copies_ND, copies_N, class_count=3, seed=0)


@pytest.mark.parametrize(("targets", "class_count"), [([0, 0, 0], 1), ([0, 1, 0], 3)])
def test_every_class_needs_a_row(targets: list[int], class_count: int) -> None:
    with pytest.raises(ValueError, match="each of them a row"):
        fit_single_label(np.eye(3, dtype=np.float32), np.array(targets), class_count=class_count, seed=0)


def test_two_rows_a_class_are_enough() -> None:
    features_ND, targets_N = blobs(8, dimensions=50, spread=0.1)
    probe = fit_single_label(features_ND, targets_N, class_count=4, seed=0)
    new_ND, new_N = blobs(100, dimensions=50, spread=0.1)
    assert np.mean(predicted(probe, new_ND).argmax(axis=1) == new_N) == 1.0


def test_features_that_say_nothing_give_the_shares_of_the_classes() -> None:
    features_ND = np.ones((40, 6), dtype=np.float32)
    features_ND[::2, 0] += 1e-3  # two different rows a class, so that something can be held out
    targets_N = np.repeat([0, 1], [30, 10])
    probe = fit_single_label(features_ND, targets_N, class_count=2, seed=0)
    assert probe.head.weight_CD.isfinite().all()
    assert probe.chosen.score == 0.75


def test_copies_do_not_make_a_head_look_better_than_it_is() -> None:
    features_ND, targets_N = blobs(60, dimensions=30, spread=4)
    targets_N = np.random.default_rng(0).permutation(targets_N)
    twice = fit_single_label(np.repeat(features_ND, 3, axis=0), np.repeat(targets_N, 3), class_count=4, seed=0)
    assert twice.chosen.score < 0.5


def test_progress_ends_when_all_that_was_planned_is_done() -> None:
    features_ND, targets_N = blobs(60)
    reports: list[tuple[int, int]] = []
    probe = fit_single_label(
        features_ND, targets_N, class_count=4, seed=0, progress=lambda done, total: reports.append((done, total))
    )
    tried = sum("regularisation_c" in one.settings and "class_weight" not in one.settings for one in probe.candidates)
    assert [done for done, _ in reports] == list(range(1, tried + 1))
    assert reports[-1] == (tried, tried)


def test_a_fit_that_hits_the_limit_of_iterations_says_so_in_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune.probes.logistic.MOST_ITERATIONS", 3)  # and no warning, which would fail this test
    features_ND, targets_N = blobs(60)
    assert not fit_single_label(features_ND, targets_N, class_count=4, seed=0).converged


def test_other_libraries_get_their_threads_back() -> None:
    from threadpoolctl import threadpool_info

    before = [(pool["filepath"], pool["num_threads"]) for pool in threadpool_info()]
    features_ND, targets_N = blobs(60)
    fit_single_label(features_ND, targets_N, class_count=4, seed=0)
    after = {pool["filepath"]: pool["num_threads"] for pool in threadpool_info()}
    assert before
    assert all(after[path] == threads for path, threads in before)


def separate(rows: int, seed: int) -> tuple[Features, Targets]:
    """Two classes of opposite corners: no line tells them apart."""
    random = np.random.default_rng(seed)
    signs_N2 = random.choice([-1.0, 1.0], size=(rows, 2))
    noise_ND = random.normal(scale=0.3, size=(rows, 6))
    noise_ND[:, :2] += signs_N2
    return noise_ND.astype(np.float32), (signs_N2.prod(axis=1) > 0).astype(np.int64)


def test_what_no_linear_head_can_tell_apart_gets_a_hidden_layer() -> None:
    features_ND, targets_N = separate(1200, 0)
    probe = fit_single_label(features_ND, targets_N, class_count=2, seed=0)
    assert probe.chosen.settings["head"] == "mlp"
    assert probe.head.hidden is not None
    new_ND, new_N = separate(500, 1)
    scores = scores_by_head(torch.from_numpy(new_ND), [probe.head] * 500, [probe.chosen.calibration.temperature] * 500)
    accuracy = np.mean(np.array(scores).argmax(axis=1) == new_N)
    assert accuracy > 0.95
    assert accuracy == pytest.approx(probe.chosen.score, abs=0.04)
    again = fit_single_label(features_ND, targets_N, class_count=2, seed=0, threads=1)
    assert again.head.to_bytes() == probe.head.to_bytes()
    linear = fit_single_label(features_ND, targets_N, class_count=2, seed=0, linear=True)
    assert linear.head.hidden is None
    assert linear.chosen.score < 0.65


def test_few_rows_get_no_hidden_layer() -> None:
    features_ND, targets_N = separate(MLP_ROWS - 1, 0)
    probe = fit_single_label(features_ND, targets_N, class_count=2, seed=0)
    assert probe.head.hidden is None


def test_a_row_and_its_unit_share_a_fold() -> None:
    """The rows of a unit are near copies of each other: only held out together they tell how good a head is."""
    features_ND, _ = blobs(60, dimensions=120, spread=4)
    targets_N = np.random.default_rng(0).integers(2, size=60)
    copies_ND = np.repeat(features_ND, 4, axis=0) + np.random.default_rng(1).normal(scale=1e-3, size=(240, 120))
    units = [[f"person {row // 4}"] for row in range(240)]
    arguments = (copies_ND.astype(np.float32), np.repeat(targets_N, 4))
    apart = fit_single_label(*arguments, class_count=2, seed=0)
    together = fit_single_label(*arguments, class_count=2, seed=0, units=units)
    assert apart.chosen.score > 0.9
    assert together.chosen.score < 0.7
