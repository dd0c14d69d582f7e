"""Data that teaches little or nothing: what is said of it is what is true of it, for every task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from finetune.evaluations.evaluation import Evaluation
from finetune.example import Example, Label, text_example
from finetune.probes.probe import Probe
from finetune.task_fit import Rows, scores_of, task_fit
from models.errors import DatasetInvalid
from models.task import Task

NOISE = 0.4

CLASSES = {
    Task.SINGLE_LABEL: ("cat", "cow", "dog"),
    Task.MULTI_LABEL: ("barks", "purrs"),
    Task.REGRESSION: ("weight",),
    Task.TOKEN_CLASSIFICATION: ("B-animal", "O"),
}
WORDS = 4


def label_of(task: Task, kinds: Sequence[int]) -> Label:
    """A label that says which kinds an example is of: one number, or one for each word."""
    match task:
        case Task.SINGLE_LABEL:
            return CLASSES[task][kinds[0]]
        case Task.MULTI_LABEL:
            return ((), ("barks",), ("barks", "purrs"))[kinds[0]]
        case Task.REGRESSION:
            return 0.5 + kinds[0]
        case _:
            return tuple("B-animal" if kind == 2 else "O" for kind in kinds)


def examples(
    task: Task, count: int, *, seed: int, wrong: Callable[[np.random.Generator, list[Label]], list[Label]]
) -> Rows:
    """Examples whose vectors tell three kinds apart, and labels that something was done to."""
    random = np.random.default_rng(seed)
    words = WORDS if task is Task.TOKEN_CLASSIFICATION else 1
    kinds_NW = random.integers(3, size=(count, words))
    centres_KD = np.random.default_rng(7).normal(size=(3, 10))
    vectors_VD = centres_KD[kinds_NW.ravel()] + random.normal(scale=0.4, size=(count * words, 10))
    labels = wrong(random, [label_of(task, kinds_W) for kinds_W in kinds_NW.tolist()])
    known: list[Example] = [
        text_example(f"{seed} {number}", label=label, source=f"{number}") for number, label in enumerate(labels)
    ]
    return Rows(
        examples=known,
        vectors_VD=vectors_VD.astype(np.float32),
        words=[list(range(words))] * count if task is Task.TOKEN_CLASSIFICATION else None,
    )


def right(random: np.random.Generator, labels: list[Label]) -> list[Label]:
    return labels


def shuffled(random: np.random.Generator, labels: list[Label]) -> list[Label]:
    return [labels[i] for i in random.permutation(len(labels))]


def noisy(random: np.random.Generator, labels: list[Label]) -> list[Label]:
    others = shuffled(random, labels)
    swapped = random.random(len(labels)) < NOISE
    return [other if swap else own for own, other, swap in zip(labels, others, swapped, strict=True)]


def learned(task: Task, wrong: Any, test_wrong: Any) -> tuple[Probe, Evaluation]:
    train, test = examples(task, 400, seed=0, wrong=wrong), examples(task, 300, seed=1, wrong=test_wrong)
    classes = CLASSES[task]
    probe = task_fit(task, classes, seed=0).fit(train)
    scores_VC = scores_of(probe.head, test.vectors_VD, probe.chosen.calibration.temperature)
    return probe, task_fit(task, classes, probe.chosen.calibration, seed=0).evaluate(test, scores_VC)


@pytest.mark.parametrize("task", CLASSES)
def test_labels_without_a_meaning_are_told_to_be_chance(task: Task) -> None:
    probe, evaluation = learned(task, shuffled, shuffled)
    assert not evaluation.beats_chance
    metric = task.traits.primary_metric
    meaningful = learned(task, right, right)[1]
    assert meaningful.beats_chance
    assert evaluation.summary()[metric] < meaningful.summary()[metric] - 0.3
    assert probe.chosen.score == pytest.approx(evaluation.summary()[metric], abs=0.15)


@pytest.mark.parametrize("task", CLASSES)
def test_noise_in_the_labels_is_seen_in_the_figures_and_what_is_behind_it_is_learned(task: Task) -> None:
    metric = task.traits.primary_metric
    probe, on_noise = learned(task, noisy, noisy)
    _, on_truth = learned(task, noisy, right)
    assert on_noise.beats_chance
    assert on_noise.summary()[metric] < on_truth.summary()[metric] - 0.1
    assert probe.chosen.score == pytest.approx(on_noise.summary()[metric], abs=0.12)
    if task is Task.SINGLE_LABEL:
        assert on_noise.summary()["ece"] < 0.1
        assert on_truth.summary()["accuracy"] > 0.9
    if task is Task.REGRESSION:
        assert on_noise.summary()["coverage"] == pytest.approx(0.9, abs=0.06)


def test_a_class_of_one_in_ten_thousand_is_not_hidden_by_accuracy() -> None:
    """Two rows of ten thousand are spam, and nothing tells them apart: accuracy alone would be praise."""
    random = np.random.default_rng(0)

    def rows(count: int, seed: int) -> Rows:
        labels = ["spam"] * 2 + ["ham"] * (count - 2)
        known = [text_example(f"{seed} {n}", label=label, source=f"{n}") for n, label in enumerate(labels)]
        return Rows(examples=known, vectors_VD=random.normal(size=(count, 8)).astype(np.float32))

    fitting = task_fit(Task.SINGLE_LABEL, ("ham", "spam"), seed=0)
    probe, test = fitting.fit(rows(10_000, 0)), rows(10_000, 1)
    evaluation = fitting.evaluate(test, scores_of(probe.head, test.vectors_VD, probe.chosen.calibration.temperature))
    told = evaluation.to_dict()
    assert told["accuracy"] == told["majority_accuracy"] == 0.9998
    assert not told["beats_chance"]
    assert told["balanced_accuracy"] == 0.5
    assert told["macro_f1"] == pytest.approx(0.5, abs=1e-3)
    assert [(one["label"], one["recall"], one["support"]) for one in told["per_class"]][1] == ("spam", 0.0, 2)


@pytest.mark.parametrize("task", CLASSES)
def test_a_head_from_elsewhere_gets_the_calibration_of_the_rows_that_judge_it(task: Task) -> None:
    train, others = examples(task, 300, seed=0, wrong=right), examples(task, 300, seed=1, wrong=right)
    fitting = task_fit(task, CLASSES[task], seed=0)
    probe = fitting.fit(train)
    chosen = fitting.judge(others, probe.head, {"epochs": 3})
    head = fitting.finished(probe.head, chosen)
    assert chosen.settings["epochs"] == 3
    assert chosen.score == pytest.approx(probe.chosen.score, abs=0.1)
    assert (chosen.calibration.threshold is None) is (task is not Task.MULTI_LABEL)
    assert (chosen.calibration.interval is None) is (task is not Task.REGRESSION)
    evaluation = task_fit(task, CLASSES[task], chosen.calibration, seed=0).evaluate(
        others, scores_of(head, others.vectors_VD, chosen.calibration.temperature)
    )
    assert evaluation.summary()[task.traits.primary_metric] == pytest.approx(chosen.score)


@pytest.mark.parametrize("task", [task for task in CLASSES if task is not Task.SINGLE_LABEL])
def test_one_example_cannot_be_cross_validated(task: Task) -> None:
    with pytest.raises(DatasetInvalid, match="two different examples"):
        task_fit(task, CLASSES[task], seed=0).fit(examples(task, 1, seed=0, wrong=right))


def test_a_part_of_the_rows_has_its_own_vectors() -> None:
    rows = examples(Task.TOKEN_CLASSIFICATION, 10, seed=0, wrong=right)
    part = rows.part([2, 5, 9])
    assert [one.source for one in part.examples] == ["2", "5", "9"]
    assert rows.places([2, 5]).tolist() == [8, 9, 10, 11, 20, 21, 22, 23]
    np.testing.assert_array_equal(part.vectors_VD, rows.vectors_VD[rows.places([2, 5, 9])])
