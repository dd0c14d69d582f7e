from __future__ import annotations

import pytest

from finetune.checks import check
from finetune.dataset import Dataset, Split
from finetune.example import Label
from finetune.findings import Finding
from finetune.policy import Policy
from finetune.targets import find_imbalance, find_nothing_to_learn, find_unlabelled, find_untested, settle_small_classes
from models.errors import DatasetInvalid
from models.task import Task
from tests.finetune.datasets import dataset


def labelled(task: Task, train: list[Label], test: list[Label] | None = None) -> Dataset:
    rows: list[tuple[Split, str, Label]] = [("train", f"train {n}", label) for n, label in enumerate(train)]
    rows += [("test", f"test {n}", label) for n, label in enumerate(test or [])]
    return dataset(*rows, task=task)


def multi(train: list[str], test: list[str] | None = None) -> Dataset:
    """Letters of a string are the labels of an example."""
    return labelled(Task.MULTI_LABEL, [tuple(row) for row in train], [tuple(row) for row in test or []])


def tagged(train: list[str], test: list[str] | None = None) -> Dataset:
    """Words of a string are the tags of an example."""
    return labelled(
        Task.TOKEN_CLASSIFICATION, [tuple(row.split()) for row in train], [tuple(t.split()) for t in test or []]
    )


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (labelled(Task.REGRESSION, []), "too_few_classes", "no training examples"),
        (labelled(Task.REGRESSION, [2.5, 2.5], [1.0]), "constant_target", "'label' is 2.5 in all training examples"),
        (multi(["", ""], ["a"]), "too_few_classes", "No training example carries a label"),
        (tagged(["O O", "O"], ["B-x"]), "too_few_classes", "No training example has an entity"),
    ],
)
def test_nothing_to_learn_is_an_error(data: Dataset, code: str, words: str) -> None:
    finding = only(find_nothing_to_learn(data))
    assert (finding.severity, finding.code) == ("error", code)
    assert words in finding.message
    with pytest.raises(DatasetInvalid, match=words):
        check(data, decode=None)


def test_one_label_of_many_and_one_type_of_entity_are_enough() -> None:
    assert find_nothing_to_learn(multi(["a", ""])) == []
    assert find_nothing_to_learn(tagged(["B-x", "O"])) == []
    assert find_nothing_to_learn(labelled(Task.REGRESSION, [1.0, 2.0])) == []


def test_a_label_that_is_rare_or_never_set_in_training_fails_or_is_left_out() -> None:
    data = multi(["ab", "ab", "a", "", "", "c"], ["a", "d"])
    same, findings = settle_small_classes(data, Policy())
    assert same is data
    assert [(finding.severity, finding.code, finding.count) for finding in findings] == [
        ("error", "class_too_small", 1),
        ("error", "class_not_in_training", 1),
    ]
    assert findings[0].message.startswith("Labels with fewer than 2 training examples: 'c'")
    assert findings[1].examples == ("test 1",)
    dropped, findings = settle_small_classes(data, Policy(drop_small_classes=True))
    assert dropped.classes == ("a", "b")
    assert [example.label for example in dropped.split("train")] == [("a", "b"), ("a", "b"), ("a",), (), (), ()]
    assert [example.label for example in dropped.split("test")] == [("a",), ()]
    assert only(findings).severity == "warning"


def test_a_label_that_is_always_set_fails_or_is_left_out() -> None:
    data = multi(["ab", "ab", "a", "a", "a", "b"])
    _, findings = settle_small_classes(data, Policy())
    finding = only(findings)
    assert (finding.severity, finding.code) == ("error", "label_always_set")
    assert "fewer than 2 training examples are without: 'a'" in finding.message
    dropped, findings = settle_small_classes(data, Policy(drop_small_classes=True))
    assert dropped.classes == ("b",)
    assert (only(findings).severity, only(findings).code) == ("warning", "label_always_set")
    assert settle_small_classes(data, Policy(min_class_size=1))[1] == []


def test_leaving_out_labels_must_leave_one() -> None:
    with pytest.raises(DatasetInvalid, match="No training example carries a label"):
        check(multi(["a", "a", "a"]), decode=None, policy=Policy(drop_small_classes=True))


def test_a_type_of_entity_that_is_rare_fails_or_becomes_outside() -> None:
    data = tagged(["B-x I-x O", "B-x", "O B-y I-y"], ["B-z"])
    _, findings = settle_small_classes(data, Policy())
    assert [finding.code for finding in findings] == ["class_too_small", "class_not_in_training"]
    assert findings[0].message.startswith("Types of entities with fewer than 2 training examples: 'y'")
    dropped, _ = settle_small_classes(data, Policy(drop_small_classes=True))
    assert [example.label for example in dropped.split("train")] == [("B-x", "I-x", "O"), ("B-x",), ("O", "O", "O")]
    assert [example.label for example in dropped.split("test")] == [("O",)]
    assert dropped.classes == ("B-x", "I-x", "O")


def test_numbers_have_no_small_classes_and_no_imbalance() -> None:
    data = labelled(Task.REGRESSION, [1.0] * 30 + [2.0])
    assert settle_small_classes(data, Policy()) == (data, [])
    assert find_imbalance(data) == []


def test_imbalance_of_labels_and_of_types() -> None:
    assert "Label 'a' has 20 training examples, 'b' has 2; judge the model by macro F1" in (
        only(find_imbalance(multi(["a"] * 20 + ["b"] * 2))).message
    )
    assert "Type of entity 'x' has 20 training examples, 'y' has 2; judge the model by the F1 of each type" in (
        only(find_imbalance(tagged(["B-x O O"] * 20 + ["B-y"] * 2))).message
    )


def test_examples_without_a_label_are_counted() -> None:
    finding = only(find_unlabelled(multi(["a", "", "a"], [""])))
    assert (finding.severity, finding.code, finding.count) == ("info", "no_label", 2)
    assert finding.examples == ("train 1", "test 0")
    assert find_unlabelled(tagged(["", "O"])) == []


def test_a_test_split_must_be_able_to_judge() -> None:
    assert "'label' is 2.0 in all test examples" in (
        only(find_untested(labelled(Task.REGRESSION, [1.0, 2.0], [2.0, 2.0]))).message
    )
    assert find_untested(labelled(Task.REGRESSION, [1.0, 2.0], [1.0, 2.0])) == []
    assert "Labels without a test example cannot be judged: 'b'" in only(find_untested(multi(["ab"], ["a"]))).message
    assert "Types of entities without a test example" in only(find_untested(tagged(["B-x B-y"], ["B-x"]))).message
    assert "a share of the examples will be held out" in only(find_untested(labelled(Task.REGRESSION, [1.0]))).message
    assert "a share of each class will be held out" in only(find_untested(multi(["a"]))).message
