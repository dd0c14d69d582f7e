"""Each metric against scikit-learn, scipy or a count by hand, of the rows as they are and of resamples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import f1_score

from finetune.primary_metric import METRICS, Metric, accuracy, entity_f1, macro_f1, spearman
from models.entities import entities
from models.task import Task

TOPICS = ["art", "food", "sport", "war"]
TAGS = ["O", "B-name", "I-name", "B-place", "I-place"]

labels = st.lists(st.sampled_from(TOPICS), unique=True).map(lambda names: tuple(sorted(names)))
tags = st.lists(st.sampled_from(TAGS), max_size=6).map(tuple)


def rows_of(count: int) -> np.ndarray:
    """The rows as they are, and three resamples."""
    drawn = np.random.default_rng(0).integers(count, size=(3, count))
    return np.concatenate([np.arange(count)[None], drawn])


def test_there_is_one_for_every_task_that_has_a_head() -> None:
    assert set(METRICS) == {task.traits.primary_metric for task in Task if task is not Task.EMBEDDING}


def test_accuracy_is_the_share_that_is_right() -> None:
    statistic = accuracy(["a", "b", "a", "a"], ["a", "a", "a", "b"])
    assert statistic(np.array([[0, 1, 2, 3], [0, 0, 2, 3], [1, 1, 1, 1]])).tolist() == [0.5, 0.75, 0.0]


@given(st.lists(st.tuples(labels, labels), min_size=1, max_size=12))
def test_macro_f1_is_that_of_scikit_learn_over_the_labels_that_occur(pairs: list[tuple[tuple[str, ...], ...]]) -> None:
    truths, answers = [true for true, _ in pairs], [said for _, said in pairs]
    rows_RN = rows_of(len(pairs))
    for found, rows in zip(macro_f1(truths, answers)(rows_RN), rows_RN, strict=True):
        occurring = sorted({name for row in rows for name in (*truths[row], *answers[row])})
        held = [[[name in one[row] for name in occurring] for row in rows] for one in (truths, answers)]
        wanted = f1_score(*held, average="macro", zero_division=0) if len(occurring) > 1 else None
        if wanted is not None:
            assert found == pytest.approx(wanted)
        assert 0 <= found <= 1


@given(st.lists(st.tuples(tags, tags), min_size=1, max_size=8))
def test_entity_f1_counts_entities_that_agree_in_label_and_both_ends(pairs: list[tuple[tuple[str, ...], ...]]) -> None:
    truths, answers = [true for true, _ in pairs], [said for _, said in pairs]
    rows_RN = rows_of(len(pairs))
    for found, rows in zip(entity_f1(truths, answers)(rows_RN), rows_RN, strict=True):
        true, said = (
            [(place, each) for place, row in enumerate(rows) for each in entities(one[row])]
            for one in (truths, answers)
        )
        hits = len(set(true) & set(said))
        assert found == pytest.approx(2 * hits / max(1, len(true) + len(said)))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=20))
def test_spearman_is_that_of_scipy_and_0_where_nothing_differs(pairs: list[tuple[int, int]]) -> None:
    truths, answers = [float(true) for true, _ in pairs], [float(said) for _, said in pairs]
    rows_RN = rows_of(len(pairs))
    for found, rows in zip(spearman(truths, answers)(rows_RN), rows_RN, strict=True):
        one, other = np.array(truths)[rows], np.array(answers)[rows]
        wanted = 0.0 if np.ptp(one) == 0 or np.ptp(other) == 0 else spearmanr(one, other).statistic
        assert found == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize(
    ("metric", "truths", "right"),
    [
        (macro_f1, [("art",), ("art", "food")], 1.0),
        (entity_f1, [("B-name", "I-name"), ("O",)], 1.0),
        (spearman, [1.0, 2.0, 3.0], 1.0),
    ],
)
def test_who_is_always_right_has_1(metric: Metric, truths: list[object], right: float) -> None:
    assert metric(truths, truths)(np.arange(len(truths))[None]).tolist() == pytest.approx([right])  # type: ignore[arg-type]
