from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from finetune.checks import inspect
from finetune.dataset import Dataset, load_dataset
from finetune.duplicates import duplicated_in_training, find_duplicates
from finetune.example import text_example
from finetune.findings import Finding
from models.image import decode_image
from models.task import Task
from tests.finetune.datasets import dataset
from tests.finetune.pictures import scene


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


def test_pairs_are_compared_text_by_text() -> None:
    texts = [("Hello", "you"), ("hello ", "YOU"), ("Hello you", ""), ("Hello", "you")]
    train = tuple(text_example(text, label=0.5, source=str(number)) for number, text in enumerate(texts))
    data = Dataset(name="d", modality="text", splits={"train": train}, given_splits=False, task=Task.REGRESSION)
    assert {code: finding.examples for code, finding in found(data).items()} == {
        "duplicates_within_split": ("0 = 3",),
        "near_duplicates": ("0 = 1 = 3",),
    }


@pytest.mark.parametrize(("task", "labels"), [(Task.REGRESSION, (0.5, 1.0)), (Task.MULTI_LABEL, (("a",), ()))])
def test_one_content_with_two_labels_conflicts_whatever_the_task(task: Task, labels: tuple[float, float]) -> None:
    data = dataset(*(("train", "same", label) for label in labels), task=task)
    assert set(found(data)) == {"duplicates_within_split", "conflicting_labels"}
    alike = dataset(*(("train", "same", labels[0]) for _ in range(2)), task=task)
    assert set(found(alike)) == {"duplicates_within_split"}


def test_groups_in_two_splits_are_reported_and_an_error_when_strict() -> None:
    data = dataset(*(("train", f"a{n}", "x") for n in range(4)), *(("test", f"b{n}", "x") for n in range(4)))
    groups = {"train": ["ada", "ada", "bob", None], "test": ["ada", "cy", "cy", None]}
    splits = {
        split: tuple(replace(one, group=group) for one, group in zip(data.split(split), groups[split], strict=True))
        for split in data.splits
        if split != "val"
    }
    finding = found(replace(data, splits=splits))["groups_across_splits"]
    assert (finding.severity, finding.count, finding.examples) == ("warning", 1, ("a0 = b0",))
    assert found(replace(data, splits=splits), strict=True)["groups_across_splits"].severity == "error"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photographs in two splits: 0 is re-encoded without loss, 1 smaller and 2 coarser in the other; 3 and 4 are new."""
    for split in ("train", "test"):
        (tmp_path / split / "x").mkdir(parents=True)
    for number in range(4):
        scene(number).save(tmp_path / "train" / "x" / f"{number}.png")
    scene(0).save(tmp_path / "test" / "x" / "0.webp", lossless=True)
    scene(1).resize((80, 60)).save(tmp_path / "test" / "x" / "1.png")
    scene(2).save(tmp_path / "test" / "x" / "2.jpg", quality=40)
    scene(4).save(tmp_path / "test" / "x" / "4.png")
    (tmp_path / "train" / "y").mkdir()
    for number in (5, 6):
        scene(number).save(tmp_path / "train" / "y" / f"{number}.png")
    return tmp_path


def test_images_are_equal_by_pixels_and_near_by_looks(photos: Path) -> None:
    data, findings = inspect(load_dataset(photos)[0], decode=decode_image)
    by_code = {finding.code: finding for finding in findings}
    assert by_code["duplicates_across_splits"].examples == ("train/x/0.png = test/x/0.webp",)
    near = by_code["near_duplicates"]
    assert (near.severity, near.count) == ("warning", 2)
    assert near.examples == ("train/x/1.png = test/x/1.png", "train/x/2.png = test/x/2.jpg")
    assert "Images that look the same, 2 of them across splits" in near.message
    (test,) = [one for one in data.split("test") if one.identity in duplicated_in_training(data)]
    assert test.source == "test/x/0.webp"


def test_images_that_were_not_decoded_are_equal_by_bytes_only(photos: Path) -> None:
    (photos / "test" / "x" / "3.png").write_bytes((photos / "train" / "x" / "3.png").read_bytes())
    assert found(load_dataset(photos)[0])["duplicates_across_splits"].examples == ("train/x/3.png = test/x/3.png",)


def test_copies_of_one_picture_are_no_near_duplicates_of_each_other(photos: Path) -> None:
    for number in range(5):
        scene(7).save(photos / "train" / "y" / f"copy{number}.png", compress_level=number)
    _, findings = inspect(load_dataset(photos)[0], decode=decode_image)
    by_code = {finding.code: finding for finding in findings}
    assert by_code["duplicates_within_split"].count == 1
    assert by_code["near_duplicates"].count == 2


@pytest.mark.parametrize("name", ["clothing10", "grocery12", "sign_digits"])
def test_photographs_of_different_things_are_not_alike(shared_data: Path, name: str) -> None:
    _, findings = inspect(load_dataset(shared_data / name)[0], decode=decode_image)
    assert findings == ()


def test_the_six_texts_of_banking77(shared_data: Path) -> None:
    data, _ = load_dataset(shared_data / "banking77")
    assert found(data)["duplicates_across_splits"].count == 6
    assert len(duplicated_in_training(data)) == 6
