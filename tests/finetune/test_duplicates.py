from __future__ import annotations

import hashlib
from pathlib import Path

from finetune.dataset import Dataset, load_dataset
from finetune.duplicates import duplicated_in_training, find_duplicates
from finetune.findings import Finding
from tests.finetune.test_dataset import dataset


def found(data: Dataset, *, strict: bool = False) -> dict[str, Finding]:
    return {finding.code: finding for finding in find_duplicates(data, strict=strict)}


def test_copies_are_told_apart_by_where_they_are() -> None:
    data = dataset(
        ("train", "both", "x"),
        ("test", "both", "x"),
        ("train", "twice", "x"),
        ("train", "twice", "x"),
        ("train", "torn", "x"),
        ("train", "torn", "y"),
        ("val", "seen", "x"),
        ("test", "seen", "x"),
        ("train", "once", "x"),
    )
    by_code = found(data)
    assert {code: (finding.count, finding.examples) for code, finding in by_code.items()} == {
        "duplicates_across_splits": (2, ("both = both", "seen = seen")),
        "duplicates_within_split": (2, ("twice = twice", "torn = torn")),
        "conflicting_labels": (1, ("torn = torn",)),
    }
    assert duplicated_in_training(data) == {hashlib.sha256(text).hexdigest() for text in (b"both", b"seen")}


def test_copies_across_splits_are_an_error_when_strict() -> None:
    data = dataset(("train", "both", "x"), ("test", "both", "x"), ("train", "twice", "x"), ("train", "twice", "x"))
    assert {code: finding.severity for code, finding in found(data, strict=True).items()} == {
        "duplicates_across_splits": "error",
        "duplicates_within_split": "warning",
    }


def test_texts_equal_but_for_case_and_space_are_counted() -> None:
    data = dataset(
        ("train", "Hello  there", "x"), ("test", "hello there\n", "x"), ("train", "A", "x"), ("train", "a", "x")
    )
    by_code = found(data, strict=True)
    assert set(by_code) == {"near_duplicates"}
    assert by_code["near_duplicates"].count == 2
    assert "1 of them across splits" in by_code["near_duplicates"].message
    assert duplicated_in_training(data) == frozenset()


def test_the_six_texts_of_banking77(shared_data: Path) -> None:
    data, _ = load_dataset(shared_data / "banking77")
    assert found(data)["duplicates_across_splits"].count == 6
    assert len(duplicated_in_training(data)) == 6
