from __future__ import annotations

import numpy as np
import pytest

from finetune.training.metrics import METRICS


def test_each_is_1_for_what_is_right_and_less_for_what_is_not() -> None:
    classes = np.eye(3)[[0, 1, 2, 1]] * 5
    assert METRICS["accuracy"](classes, np.array([0, 1, 2, 1]), "abc") == 1
    assert METRICS["accuracy"](classes, np.array([0, 1, 2, 2]), "abc") == 0.75

    tags = ("B-x", "I-x", "O")
    said = np.eye(3)[[0, 1, 2, 0]]
    assert METRICS["entity_f1"](said, np.array([0, 1, 2, 0]), tags) == 1
    assert METRICS["entity_f1"](said, np.array([0, 2, 2, 0]), tags) == 0.5

    values = np.array([[1.0], [2.0], [4.0]])
    assert METRICS["spearman"](values, np.array([10.0, 20.0, 30.0]), "v") == pytest.approx(1)
    assert METRICS["spearman"](values, np.array([30.0, 20.0, 10.0]), "v") == pytest.approx(-1)
    assert METRICS["spearman"](np.ones((3, 1)), np.array([1.0, 2.0, 3.0]), "v") == 0


def test_labels_that_never_occur_count_for_nothing() -> None:
    true_VC = np.array([[1.0, 0, 0], [1, 1, 0]])
    logits_VC = np.array([[2.0, -1, -1], [2, -1, -1]])
    assert METRICS["macro_f1"](logits_VC, true_VC, "abc") == 0.5  # of a: 1, of b: 0, and no c
    assert METRICS["macro_f1"](-np.ones((2, 3)), np.zeros((2, 3)), "abc") == 0
