from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.dataset import ColumnNames, Dataset, load_dataset
from finetune.example import Split, text_example
from models.errors import DatasetInvalid


def dataset(*rows: tuple[Split, str, str]) -> Dataset:
    """Texts from (split, text, label)."""
    names: tuple[Split, ...] = ("train", "val", "test")
    splits = {
        name: tuple(text_example(text, label=label, source=text) for split, text, label in rows if split == name)
        for name in names
    }
    return Dataset(name="d", modality="text", splits=splits, given_splits=True)


def test_the_fingerprint_knows_content_label_and_split_but_no_order() -> None:
    one = dataset(("train", "a", "x"), ("train", "b", "y"), ("test", "c", "x"))
    assert one.fingerprint == dataset(("test", "c", "x"), ("train", "b", "y"), ("train", "a", "x")).fingerprint
    others = [
        dataset(("train", "a", "x"), ("train", "b", "y"), ("test", "d", "x")),
        dataset(("train", "a", "y"), ("train", "b", "y"), ("test", "c", "x")),
        dataset(("train", "a", "x"), ("test", "b", "y"), ("test", "c", "x")),
        dataset(("train", "a", "x"), ("train", "b", "y"), ("test", "c", "x"), ("test", "c", "x")),
    ]
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 5


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1))
def test_the_class_map_is_stable_and_survives_json(labels: list[str]) -> None:
    forth = dataset(*(("train", str(index), label) for index, label in enumerate(labels)))
    back = dataset(*(("train", str(index), label) for index, label in enumerate(reversed(labels))))
    assert forth.classes == back.classes
    assert set(forth.classes) == set(labels)
    assert tuple(json.loads(json.dumps(forth.classes))) == forth.classes


def test_splits_counts_and_pool() -> None:
    data = dataset(("train", "a", "x"), ("val", "b", "y"), ("test", "c", "x"))
    assert data.counts["val"] == {"y": 1}
    assert [example.text for example in data.pool] == ["a", "b"]
    assert Dataset(name="d", modality="text", splits={}, given_splits=False).split("test") == ()


def test_a_folder_of_classes_and_a_folder_of_tables_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "train" / "cat").mkdir(parents=True)
    (tmp_path / "train" / "cat" / "1.jpg").touch()
    loaded, _ = load_dataset(tmp_path)
    assert (loaded.modality, loaded.name, loaded.given_splits) == ("image", tmp_path.name, True)
    (tmp_path / "train.csv").write_text("image,label\ntrain/cat/1.jpg,dog\n")
    loaded, _ = load_dataset(tmp_path)
    assert loaded.classes == ("dog",)


def test_a_table_alone(tmp_path: Path) -> None:
    (tmp_path / "pets.CSV").write_text("text,label\nmeow,cat\n")
    loaded, findings = load_dataset(tmp_path / "pets.CSV")
    assert (loaded.name, loaded.classes, loaded.given_splits, findings) == ("pets.CSV", ("cat",), False, ())


def test_the_data_may_be_named_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "pets.csv").write_text("text,label\nmeow,cat\n")
    (tmp_path / "link.csv").symlink_to("pets.csv")
    assert load_dataset(tmp_path / "link.csv")[0].classes == ("cat",)


def test_columns_of_class_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match="leave out --text-column"):
        load_dataset(tmp_path, columns=ColumnNames(label="label"))


@pytest.mark.parametrize("name", ["absent", "loop", "notes.md"])
def test_what_is_no_dataset_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "notes.md").touch()
    with pytest.raises(DatasetInvalid, match=name):
        load_dataset(tmp_path / name)


def test_a_file_that_changes_in_use_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    image = tmp_path / "cat" / "1.jpg"
    image.write_bytes(b"before")
    example = load_dataset(tmp_path)[0].split("train")[0]
    assert example.read() == b"before"
    image.write_bytes(b"after!")
    with pytest.raises(DatasetInvalid, match=r"^cat/1.jpg: the file changed"):
        example.read()
    image.unlink()
    with pytest.raises(DatasetInvalid, match=r"^cat/1.jpg: the file does not exist"):
        example.read()


@pytest.mark.parametrize(
    ("name", "modality", "train", "test", "classes"),
    [
        ("banking77", "text", 10003, 3080, 77),
        ("clothing10", "image", 600, 200, 10),
        ("sms_spam", "text", 4160, 1000, 2),
    ],
)
def test_public_data(shared_data: Path, name: str, modality: str, train: int, test: int, classes: int) -> None:
    loaded, findings = load_dataset(shared_data / name)
    assert (loaded.modality, len(loaded.classes), findings) == (modality, classes, ())
    assert {split: len(examples) for split, examples in loaded.splits.items()} == {"train": train, "test": test}
