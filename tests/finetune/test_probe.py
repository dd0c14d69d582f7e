from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from finetune.probe import REGULARISATION_CS, SHRINKAGES, Probe, assign_folds, fit_probe
from finetune.whitening import ClassCovariance
from models.errors import DatasetInvalid

Features = npt.NDArray[np.float32]
Targets = npt.NDArray[np.int64]


def blobs(rows: int, *, classes: int = 4, dimensions: int = 12, spread: float = 0.8) -> tuple[Features, Targets]:
    """One cloud a class; the same centres whatever the number of rows."""
    centres_CD = np.random.default_rng(7).normal(size=(classes, dimensions))
    targets_N = np.arange(rows) % classes
    noise_ND = np.random.default_rng(rows).normal(scale=spread, size=(rows, dimensions))
    return (centres_CD[targets_N] + noise_ND).astype(np.float32), targets_N


def predicted(probe: Probe, features_ND: Features) -> npt.NDArray[np.float64]:
    """Probabilities ``(N, C)``."""
    logits_NC = features_ND.astype(np.float64) @ probe.head.weight_CD.numpy().T + probe.head.bias_C.numpy()
    power_NC = np.exp((logits_NC - logits_NC.max(axis=1, keepdims=True)) / probe.temperature)
    return np.asarray(power_NC / power_NC.sum(axis=1, keepdims=True))


def test_a_head_is_right_on_new_rows_and_as_sure_as_it_is_right() -> None:
    features_ND, targets_N = blobs(200)
    probe = fit_probe(features_ND, targets_N, class_count=4, seed=0)
    new_ND, new_N = blobs(2000)
    scores_NC = predicted(probe, new_ND)
    accuracy = np.mean(scores_NC.argmax(axis=1) == new_N)
    assert accuracy > 0.95
    assert accuracy == pytest.approx(probe.cross_validated_accuracy, abs=0.03)
    assert scores_NC.max(axis=1).mean() == pytest.approx(accuracy, abs=0.03)
    assert probe.converged
    assert probe.folds == 5


def test_equal_arguments_give_equal_bytes_whatever_the_number_of_threads() -> None:
    features_ND, targets_N = blobs(300, dimensions=40)
    probes = [fit_probe(features_ND, targets_N, class_count=4, seed=3, threads=threads) for threads in (1, 1, 4)]
    assert len({probe.head.to_bytes() for probe in probes}) == 1
    assert len({(probe.temperature, probe.candidates) for probe in probes}) == 1


def test_another_seed_deals_other_folds() -> None:
    features_ND, targets_N = blobs(60)
    one, other = (assign_folds(features_ND, targets_N, folds=5, seed=seed) for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_the_chosen_candidate_has_the_lowest_loss_and_its_neighbours_were_tried() -> None:
    features_ND, targets_N = blobs(120, spread=1.5)
    probe = fit_probe(features_ND, targets_N, class_count=4, seed=0)
    best = min(probe.candidates, key=lambda candidate: candidate.log_loss)
    assert probe.feature_scaling == f"whiten-{best.shrinkage:g}"
    assert (probe.regularisation_c, probe.temperature) == (best.regularisation_c, best.temperature)
    assert (probe.cross_validated_accuracy, probe.cross_validated_log_loss) == (best.accuracy, best.log_loss)
    tried = {(candidate.shrinkage, candidate.regularisation_c) for candidate in probe.candidates}
    assert len(tried) == len(probe.candidates)
    assert tried <= set(itertools.product(SHRINKAGES, REGULARISATION_CS))


def test_the_head_is_logistic_regression_on_whitened_features() -> None:
    features_ND, targets_N = blobs(150, spread=1.5)
    probe = fit_probe(features_ND, targets_N, class_count=4, seed=0)
    exact_ND = features_ND.astype(np.float64)
    covariance = ClassCovariance.of(exact_ND, targets_N)
    whitened_NK = (exact_ND - covariance.mean_D) @ covariance.whitening(float(probe.feature_scaling.split("-")[1]))
    model = LogisticRegression(C=probe.regularisation_c, tol=1e-8, max_iter=1000).fit(whitened_NK, targets_N)
    logits_NC = exact_ND @ probe.head.weight_CD.numpy().T + probe.head.bias_C.numpy()
    difference_NC = logits_NC - model.decision_function(whitened_NK)
    np.testing.assert_allclose(difference_NC, difference_NC.mean(axis=1, keepdims=True) + 0 * difference_NC, atol=1e-4)


def test_a_shift_and_a_scale_of_the_features_change_no_answer() -> None:
    features_ND, targets_N = blobs(150, spread=1.5)
    moved_ND = features_ND * np.float32(64) + np.float32(32)
    one = predicted(fit_probe(features_ND, targets_N, class_count=4, seed=0), features_ND)
    other = predicted(fit_probe(moved_ND, targets_N, class_count=4, seed=0), moved_ND)
    np.testing.assert_allclose(one, other, atol=1e-3)


def test_directions_that_vary_within_classes_are_held_back() -> None:
    features_ND, targets_N = blobs(80, dimensions=24, spread=0.5)
    features_ND[:, :12] += np.random.default_rng(0).normal(scale=6, size=(80, 12)).astype(np.float32)
    probe = fit_probe(features_ND, targets_N, class_count=4, seed=0)
    assert probe.feature_scaling != "whiten-1"
    assert probe.cross_validated_accuracy > 0.9


def test_two_classes_get_two_opposite_rows() -> None:
    features_ND, targets_N = blobs(100, classes=2, spread=1.5)
    probe = fit_probe(features_ND, targets_N, class_count=2, seed=0)
    weight_CD = probe.head.weight_CD.numpy()
    assert weight_CD.shape == (2, 12)
    np.testing.assert_array_equal(weight_CD[0], -weight_CD[1])
    new_ND, new_N = blobs(1000, classes=2, spread=1.5)
    assert np.mean(predicted(probe, new_ND).argmax(axis=1) == new_N) > 0.8


def test_shuffled_labels_are_reported_as_chance() -> None:
    features_ND, targets_N = blobs(400)
    shuffled_N = np.random.default_rng(0).permutation(targets_N)
    probe = fit_probe(features_ND, shuffled_N, class_count=4, seed=0)
    assert probe.cross_validated_accuracy == pytest.approx(0.25, abs=0.08)
    assert probe.cross_validated_log_loss == pytest.approx(np.log(4), abs=0.02)


def test_a_class_with_one_row_is_learned_and_never_held_out() -> None:
    features_ND, targets_N = blobs(41)
    targets_N[:40], targets_N[40] = np.arange(40) % 4, 4
    features_ND[40] = 5.0
    fold_N = assign_folds(features_ND, targets_N, folds=5, seed=0)
    assert fold_N[40] == -1
    assert sorted(set(fold_N[:40])) == [0, 1, 2, 3, 4]
    probe = fit_probe(features_ND, targets_N, class_count=5, seed=0)
    assert predicted(probe, features_ND[40:]).argmax() == 4


def test_classes_of_one_row_each_cannot_be_cross_validated() -> None:
    features_ND, targets_N = blobs(3, classes=3)
    with pytest.raises(DatasetInvalid, match="two different examples"):
        fit_probe(features_ND, targets_N, class_count=3, seed=0)
    copies_ND, copies_N = np.repeat(features_ND, 5, axis=0), np.repeat(targets_N, 5)
    with pytest.raises(DatasetInvalid, match="two different examples"):
        fit_probe(copies_ND, copies_N, class_count=3, seed=0)


@pytest.mark.parametrize(("targets", "class_count"), [([0, 0, 0], 1), ([0, 1, 0], 3)])
def test_every_class_needs_a_row(targets: list[int], class_count: int) -> None:
    with pytest.raises(ValueError, match="each of them a row"):
        fit_probe(np.eye(3, dtype=np.float32), np.array(targets), class_count=class_count, seed=0)


def test_two_rows_a_class_are_enough() -> None:
    features_ND, targets_N = blobs(8, dimensions=50, spread=0.1)
    probe = fit_probe(features_ND, targets_N, class_count=4, seed=0)
    new_ND, new_N = blobs(100, dimensions=50, spread=0.1)
    assert np.mean(predicted(probe, new_ND).argmax(axis=1) == new_N) == 1.0


def test_features_that_say_nothing_give_the_shares_of_the_classes() -> None:
    features_ND = np.ones((40, 6), dtype=np.float32)
    features_ND[::2, 0] += 1e-3  # two different rows a class, so that something can be held out
    targets_N = np.repeat([0, 1], [30, 10])
    probe = fit_probe(features_ND, targets_N, class_count=2, seed=0)
    assert probe.head.weight_CD.isfinite().all()
    assert probe.cross_validated_accuracy == 0.75


def test_copies_do_not_make_a_head_look_better_than_it_is() -> None:
    features_ND, targets_N = blobs(60, dimensions=30, spread=4)
    targets_N = np.random.default_rng(0).permutation(targets_N)
    twice = fit_probe(np.repeat(features_ND, 3, axis=0), np.repeat(targets_N, 3), class_count=4, seed=0)
    assert twice.cross_validated_accuracy < 0.5


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=40),
    st.integers(2, 6),
    st.integers(0, 5),
)
def test_every_class_stays_in_the_training_part_of_every_fold(
    rows: list[tuple[int, int]], folds: int, seed: int
) -> None:
    targets_N = np.array([target for target, _ in rows])
    features_ND = np.array([[content] for _, content in rows], dtype=np.float32)
    fold_N = assign_folds(features_ND, targets_N, folds=folds, seed=seed)
    different = {target: {content for t, content in rows if t == target} for target in set(targets_N.tolist())}
    for fold in range(fold_N.max() + 1):
        assert (fold_N == fold).any()
        assert set(targets_N[fold_N != fold]) == set(targets_N)
    for (target, content), fold in zip(rows, fold_N, strict=True):
        assert (fold == -1) == (len(different[target]) == 1)
        assert {fold_N[i] for i, row in enumerate(rows) if row == (target, content)} == {fold}
    dealt = {(row, fold) for row, fold in zip(rows, fold_N.tolist(), strict=True) if fold >= 0}
    sizes = [sum(fold == other for _, other in dealt) for fold in range(fold_N.max() + 1)]
    assert not sizes or max(sizes) - min(sizes) <= 1


def test_progress_ends_when_all_that_was_planned_is_done() -> None:
    features_ND, targets_N = blobs(60)
    reports: list[tuple[int, int]] = []
    probe = fit_probe(
        features_ND, targets_N, class_count=4, seed=0, progress=lambda done, total: reports.append((done, total))
    )
    assert [done for done, _ in reports] == list(range(1, len(probe.candidates) + 1))
    assert reports[-1] == (len(probe.candidates), len(probe.candidates))


def test_a_fit_that_hits_the_limit_of_iterations_says_so_in_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune.probe._MOST_ITERATIONS", 3)  # and no warning, which would fail this test
    features_ND, targets_N = blobs(60)
    assert not fit_probe(features_ND, targets_N, class_count=4, seed=0).converged


def test_other_libraries_get_their_threads_back() -> None:
    from threadpoolctl import threadpool_info

    before = [(pool["filepath"], pool["num_threads"]) for pool in threadpool_info()]
    features_ND, targets_N = blobs(60)
    fit_probe(features_ND, targets_N, class_count=4, seed=0)
    after = {pool["filepath"]: pool["num_threads"] for pool in threadpool_info()}
    assert before
    assert all(after[path] == threads for path, threads in before)
