from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.dataset import SPLITS, ColumnNames, Dataset, load_dataset
from finetune.example import Label, text_example
from models.errors import DatasetInvalid
from models.task import Task
from tests.finetune.datasets import dataset


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


def test_the_fingerprint_knows_groups_and_every_kind_of_label() -> None:
    def grouped(group: str | None, label: Label = "x") -> str:
        example = text_example("a", label=label, source="", group=group)
        return Dataset(name="d", modality="text", splits={"train": (example,)}, given_splits=False).fingerprint

    labels: list[Label] = ["x", "1.5", 1.5, ("x",), ()]
    prints = [grouped(None), grouped("g"), grouped("h"), *(grouped(None, label) for label in labels[1:])]
    assert len(set(prints)) == len(prints)


@pytest.mark.parametrize(
    ("task", "labels", "classes", "counts"),
    [
        (Task.MULTI_LABEL, [("b", "c"), (), ("a", "b")], ("a", "b", "c"), {"b": 2, "c": 1, "a": 1}),
        (Task.REGRESSION, [0.5, 0.5, 2.0], ("label",), {"label": 3}),
        (
            Task.TOKEN_CLASSIFICATION,
            [("O", "B-x"), ("B-x", "I-x"), ()],
            ("B-x", "I-x", "O"),
            {"O": 1, "B-x": 2, "I-x": 1},
        ),
    ],
)
def test_classes_and_counts_of_other_tasks(
    task: Task, labels: list[Label], classes: tuple[str, ...], counts: dict[str, int]
) -> None:
    data = dataset(*(("train", str(number), label) for number, label in enumerate(labels)), task=task)
    assert data.classes == classes
    assert data.counts["train"] == counts
    assert not data.pairs


def test_a_dataset_of_pairs_knows_it(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("text_a,text_b,score\na,b,0.5\n")
    loaded, _ = load_dataset(tmp_path / "pairs.csv")
    assert (loaded.pairs, loaded.task, loaded.target, loaded.classes) == (True, Task.REGRESSION, "score", ("score",))


def test_class_folders_hold_single_labels(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.jpg").touch()
    assert load_dataset(tmp_path, task=Task.SINGLE_LABEL)[0].classes == ("cat",)
    with pytest.raises(DatasetInvalid, match="for multi-label write a table with a label column"):
        load_dataset(tmp_path, task=Task.MULTI_LABEL)


def test_a_name_with_a_line_end_does_not_break_a_message(tmp_path: Path) -> None:
    name = "new\nline 🐈 قطة.csv"
    (tmp_path / name).write_text("text,label\na\n")
    with pytest.raises(DatasetInvalid, match=r"new\\nline 🐈 قطة.csv:2: has 1 field") as caught:
        load_dataset(tmp_path / name)
    assert caught.value.message.isprintable()
    (tmp_path / name).write_text("text,label\na,x\n")
    assert load_dataset(tmp_path / name)[0].split("train")[0].source == "new\\nline 🐈 قطة.csv:2"


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


@pytest.mark.parametrize(
    ("name", "task", "pairs", "sizes", "classes"),
    [
        ("stsb_en", Task.REGRESSION, True, (5749, 1500, 1379), 1),
        ("wnut17_ner", Task.TOKEN_CLASSIFICATION, False, (3394, 1009, 1287), 13),
    ],
)
def test_public_data_of_other_tasks(
    shared_data: Path, name: str, task: Task, pairs: bool, sizes: tuple[int, ...], classes: int
) -> None:
    loaded, findings = load_dataset(shared_data / name)
    assert (loaded.task, loaded.pairs, len(loaded.classes)) == (task, pairs, classes)
    assert tuple(len(loaded.split(split)) for split in SPLITS) == sizes
    assert [finding.code for finding in findings] == ["task_detected"]
