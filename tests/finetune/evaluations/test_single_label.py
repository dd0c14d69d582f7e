from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.evaluations.resamples import RESAMPLES
from finetune.evaluations.single_label import SingleLabelEvaluation, evaluate_single_label
from finetune.intervals import bootstrap, percentile, wilson

ABC = ("a", "b", "c")


def predictions(rows: int, classes: int, *, skill: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and targets; with skill 0 the one says nothing about the other."""
    generator = np.random.default_rng(seed)
    targets_N = generator.integers(classes, size=rows)
    logits_NC = generator.normal(size=(rows, classes))
    logits_NC[np.arange(rows), targets_N] += skill
    odds_NC = np.exp(logits_NC)
    return odds_NC / odds_NC.sum(axis=1, keepdims=True), targets_N


def evaluated(rows: int, classes: int, *, skill: float, seed: int = 0) -> SingleLabelEvaluation:
    probabilities_NC, targets_N = predictions(rows, classes, skill=skill, seed=seed)
    return evaluate_single_label(probabilities_NC, targets_N, classes=[f"class {i}" for i in range(classes)], seed=seed)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(2, 6), st.floats(0, 4), st.integers(0, 2**32))
def test_scores_agree_with_scikit_learn(rows: int, class_count: int, skill: float, seed: int) -> None:
    from sklearn import metrics

    probabilities_NC, targets_N = predictions(rows, class_count, skill=skill, seed=seed)
    predicted_N = probabilities_NC.argmax(axis=1)
    labels = range(class_count)
    evaluation = evaluate_single_label(probabilities_NC, targets_N, classes=[str(label) for label in labels], seed=0)

    assert evaluation.accuracy == metrics.accuracy_score(targets_N, predicted_N)
    assert evaluation.macro_f1 == pytest.approx(metrics.f1_score(targets_N, predicted_N, average="macro"))
    assert evaluation.log_loss == pytest.approx(metrics.log_loss(targets_N, probabilities_NC, labels=labels))
    matrix_CC = metrics.confusion_matrix(targets_N, predicted_N, labels=labels)
    assert (evaluation.confusion_CC == matrix_CC).all()
    recalls = [matrix_CC[i, i] / matrix_CC[i].sum() for i in labels if matrix_CC[i].sum()]
    assert evaluation.balanced_accuracy == pytest.approx(np.mean(recalls))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(1, 6), st.floats(0, 4), st.integers(0, 2**32))
def test_each_score_lies_in_its_interval(rows: int, class_count: int, skill: float, seed: int) -> None:
    evaluation = evaluated(rows, class_count, skill=skill, seed=seed)
    for name in ("accuracy", "macro_f1", "ece", "log_loss"):
        low, high = getattr(evaluation, f"{name}_ci")
        assert 0 <= low <= getattr(evaluation, name) <= high
        assert high <= 1 or name == "log_loss"


def test_expected_calibration_error_by_hand() -> None:
    # Bins of width 1/15: 0.95 and 0.94 share the last, (0.933, 1]; 0.61 lies alone in (0.6, 0.667].
    probabilities_NC = np.array([[0.95, 0.05], [0.94, 0.06], [0.39, 0.61]])
    evaluation = evaluate_single_label(probabilities_NC, np.array([0, 1, 1]), classes=["no", "yes"], seed=0)
    assert evaluation.ece == pytest.approx((2 * abs(0.945 - 0.5) + abs(0.61 - 1)) / 3)
    lonely, last = evaluation.reliability
    assert (lonely.low, lonely.high, lonely.confidence, lonely.accuracy, lonely.count) == pytest.approx(
        (9 / 15, 10 / 15, 0.61, 1.0, 1)
    )
    assert (last.low, last.high, last.confidence, last.accuracy, last.count) == pytest.approx(
        (14 / 15, 1.0, 0.945, 0.5, 2)
    )


def test_intervals_are_those_of_a_plain_bootstrap() -> None:
    probabilities_NC, targets_N = predictions(40, 3, skill=1)
    predicted_N = probabilities_NC.argmax(axis=1)

    def f1_the_slow_way(rows_RN: np.ndarray) -> np.ndarray:
        scores = []
        for rows_N in rows_RN:
            pairs = list(zip(targets_N[rows_N].tolist(), predicted_N[rows_N].tolist(), strict=True))
            occurring = {label for pair in pairs for label in pair}
            f1 = [2 * pairs.count((c, c)) / sum((true == c) + (guess == c) for true, guess in pairs) for c in occurring]
            scores.append([np.mean(f1)])
        return np.array(scores)

    evaluation = evaluate_single_label(probabilities_NC, targets_N, classes=ABC, seed=5)
    resampled = bootstrap(f1_the_slow_way, 40, seed=5, resamples=RESAMPLES)
    assert evaluation.macro_f1_ci == pytest.approx(percentile(evaluation.macro_f1, resampled[:, 0]))
    assert evaluation.accuracy_ci == wilson(round(evaluation.accuracy * 40), 40)


def test_a_class_that_never_occurs_is_left_out_of_macro_f1() -> None:
    probabilities_NC = np.eye(3)[[0, 1, 1, 0]]
    evaluation = evaluate_single_label(probabilities_NC, np.array([0, 1, 1, 1]), classes=ABC, seed=0)
    assert evaluation.macro_f1 == pytest.approx((2 / 3 + 4 / 5) / 2)
    never = evaluation.per_class[2]
    assert (never.label, never.precision, never.recall, never.f1, never.support) == ("c", 0.0, 0.0, 0.0, 0)


def test_rows_of_the_confusion_matrix_are_the_true_classes() -> None:
    evaluation = evaluate_single_label(np.eye(3)[[1, 1, 2]], np.array([0, 0, 2]), classes=ABC, seed=0)
    assert evaluation.confusion_CC.tolist() == [[0, 2, 0], [0, 0, 0], [0, 0, 1]]
    assert evaluation.to_dict()["confusion"] == [["a", "b", 2], ["c", "c", 1]]
    with pytest.raises(ValueError, match="read-only"):
        evaluation.confusion_CC[0, 0] = 1


@pytest.mark.parametrize("seed", range(5))
def test_a_classifier_that_learned_nothing_does_not_beat_chance(seed: int) -> None:
    evaluation = evaluated(300, 4, skill=0, seed=seed)
    assert abs(evaluation.accuracy - 0.25) < 0.1
    assert not evaluation.beats_chance


def test_a_classifier_that_learned_beats_chance() -> None:
    assert evaluated(300, 4, skill=3).beats_chance


def test_always_answering_the_majority_is_called_chance() -> None:
    probabilities_NC = np.tile([0.1, 0.9], (100, 1))
    evaluation = evaluate_single_label(probabilities_NC, np.array([0] * 2 + [1] * 98), classes=["spam", "ham"], seed=0)
    assert (evaluation.majority_class, evaluation.majority_accuracy) == ("ham", 0.98)
    assert evaluation.accuracy == 0.98
    assert evaluation.balanced_accuracy == 0.5
    assert not evaluation.beats_chance


def test_an_impossible_row_gives_a_finite_loss() -> None:
    evaluation = evaluate_single_label(np.array([[1.0, 0.0]]), np.array([1]), classes=["a", "b"], seed=0)
    assert evaluation.log_loss == pytest.approx(36.04, abs=0.01)


def test_the_dict_is_plain_json() -> None:
    evaluation = evaluated(50, 3, skill=1)
    plain = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert plain == evaluation.to_dict()
    assert plain["accuracy_ci"] == list(evaluation.accuracy_ci)
    assert plain["per_class"][0]["label"] == "class 0"
    assert sum(bin_["count"] for bin_ in plain["reliability"]) == 50
    assert sum(count for _, _, count in plain["confusion"]) == 50
    assert plain.items() >= evaluation.summary().items()


@pytest.mark.parametrize("precision", [np.float16, np.float32])
def test_low_precision_scores_are_welcome(precision: type) -> None:
    probabilities_NC, targets_N = predictions(100, 50, skill=3)
    classes = [str(i) for i in range(50)]
    exact = evaluate_single_label(probabilities_NC, targets_N, classes=classes, seed=0)
    rounded = evaluate_single_label(probabilities_NC.astype(precision), targets_N, classes=classes, seed=0)
    assert rounded.log_loss == pytest.approx(exact.log_loss, rel=1e-2)


def test_equal_seeds_give_equal_evaluations() -> None:
    probabilities_NC, targets_N = predictions(80, 3, skill=1)
    first, again, other = (
        evaluate_single_label(probabilities_NC, targets_N, classes=ABC, seed=seed) for seed in (3, 3, 2**70)
    )
    assert first == again
    assert first != other
    same = {name: getattr(first, name) for name in ("macro_f1_ci", "ece_ci", "log_loss_ci", "per_class")}
    assert replace(other, **same) == first


def test_every_class_score_lies_in_its_interval() -> None:
    evaluation = evaluated(50, 3, skill=1)
    for scores in evaluation.per_class:
        for name in ("precision", "recall", "f1"):
            low, high = getattr(scores, f"{name}_ci")
            assert 0 <= low <= getattr(scores, name) <= high <= 1
            assert high - low < 0.9
    never = evaluate_single_label(GOOD[:1], np.array([0]), classes=["a", "b"], seed=0).per_class[1]
    assert (never.precision_ci, never.recall_ci) == ((0, 1), (0, 1))


GOOD = np.array([[0.5, 0.5], [0.5, 0.5]])


@pytest.mark.parametrize(
    ("probabilities_NC", "targets", "classes", "message"),
    [
        (np.zeros((0, 2)), [], "ab", "at least one row"),
        (GOOD, [0], "ab", "shape"),
        (GOOD, [0, 1], "abc", "shape"),
        (GOOD, [[0], [1]], "ab", "shape"),
        (GOOD, [0, 1], "aa", "distinct"),
        (GOOD, [0, 2], "ab", "0 to 1"),
        (GOOD, [0, -1], "ab", "0 to 1"),
        (GOOD * 2, [0, 1], "ab", "sum to 1"),
        (GOOD * np.nan, [0, 1], "ab", "sum to 1"),
        (np.array([[1.5, -0.5], [0.5, 0.5]]), [0, 1], "ab", "non-negative"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    probabilities_NC: np.ndarray, targets: list[int], classes: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate_single_label(probabilities_NC, np.array(targets, dtype=np.int64), classes=classes, seed=0)


def test_the_size_of_banking77_takes_seconds_at_most() -> None:
    probabilities_NC, targets_N = predictions(3080, 77, skill=3)
    before = time.process_time()
    evaluate_single_label(probabilities_NC, targets_N, classes=[str(i) for i in range(77)], seed=0)
    assert time.process_time() - before < 3
