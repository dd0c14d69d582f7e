from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from finetune.checks import Policy
from finetune.dataset import ColumnNames
from finetune.doctor import Examination, examine, print_examination
from models.errors import DatasetInvalid
from models.task import Task


def printed(examination: Examination) -> str:
    stream = io.StringIO()
    print_examination(examination, Console(file=stream, width=120))
    return stream.getvalue()


def write(folder: Path, name: str, *rows: tuple[str, str]) -> None:
    (folder / name).write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))


def test_a_healthy_dataset(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", ("a", "x"), ("b", "x"), ("c", "y"), ("d", "y"))
    write(tmp_path, "test.csv", ("e", "x"), ("f", "y"))
    examination = examine(tmp_path)
    assert examination.healthy
    assert examination.require().classes == ("x", "y")
    assert json.loads(json.dumps(examination.to_dict())) == {
        "data": str(tmp_path),
        "healthy": True,
        "modality": "text",
        "task": "single-label",
        "pairs": False,
        "fingerprint": examination.require().fingerprint,
        "splits": {"train": 4, "test": 2},
        "classes": {"x": {"train": 2, "test": 1}, "y": {"train": 2, "test": 1}},
        "findings": [],
    }
    text = printed(examination)
    assert "2 classes of texts" in text
    assert "Nothing to report" in text


def test_a_dataset_that_cannot_be_read(tmp_path: Path) -> None:
    examination = examine(tmp_path / "absent")
    assert not examination.healthy
    assert examination.dataset is None
    assert [finding.code for finding in examination.findings] == ["dataset_invalid"]
    assert examination.to_dict()["classes"] == {}
    assert "does not exist" in printed(examination)
    with pytest.raises(DatasetInvalid, match="absent: does not exist"):
        examination.require()


def test_a_dataset_with_errors_is_still_counted(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", ("a", "x"), ("b", "x"), ("c", "y"))
    examination = examine(tmp_path)
    assert examination.counts == {"x": {"train": 2}, "y": {"train": 1}}
    with pytest.raises(DatasetInvalid, match="'y'"):
        examination.require()


def test_options_reach_the_loader_and_the_checks(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_bytes("satz,art\ncafé,x\nb,x\nc,y\nd,y\ne,z\n".encode("latin-1"))
    examination = examine(
        tmp_path / "data.csv",
        columns=ColumnNames(text="satz", label="art"),
        encoding="latin-1",
        policy=Policy(drop_small_classes=True),
    )
    assert examination.require().classes == ("x", "y")
    examination = examine(
        tmp_path / "data.csv",
        columns=ColumnNames(text="satz", label="art"),
        task=Task.MULTI_LABEL,
        encoding="latin-1",
        policy=Policy(min_class_size=1),
    )
    assert examination.require().task is Task.MULTI_LABEL


def test_a_file_that_changes_during_the_examination_becomes_a_finding(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for index in range(2):
            (tmp_path / label / f"{index}.jpg").write_text(f"{label} {index}")

    def spoil(done: int, total: int) -> None:
        if done == total:
            (tmp_path / "cat" / "0.jpg").write_text("changed")

    examination = examine(tmp_path, decode=lambda content: Image.new("RGB", (1, 1)), progress=spoil)
    (finding,) = examination.findings
    assert "cat/0.jpg: the file changed" in finding.message


def test_the_table_of_classes_ends_at_thirty(tmp_path: Path) -> None:
    write(
        tmp_path, "train.csv", *((f"{label}-{index}", f"label{label:02}") for label in range(32) for index in range(2))
    )
    text = printed(examine(tmp_path))
    assert "label29" in text
    assert "label30" not in text
    assert "... and 2 more" in text
    assert "64" in text


def test_labels_are_not_taken_for_markup(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", ("a", "[bold]"), ("b", "[bold]"), ("c", "y"), ("d", "y"))
    assert "[bold]" in printed(examine(tmp_path))


def test_amounts_are_shown_by_their_range(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text_a,text_b,[price]\na,b,1.5\nc,d,4\n")
    examination = examine(tmp_path, columns=ColumnNames(label="[price]"))
    assert examination.counts == {"[price]": {"train": 2}}
    document = examination.to_dict()
    assert (document["task"], document["pairs"]) == ("regression", True)
    text = printed(examination)
    for shown in ("[price]", "pairs of texts", "1.5", "2.75", "4"):
        assert shown in text


def test_labels_of_many_and_tags_are_counted(tmp_path: Path) -> None:
    rows = ['{"text": "a", "labels": ["x", "y"]}', '{"text": "b", "labels": ["x"]}', '{"text": "c", "labels": []}']
    (tmp_path / "labels.jsonl").write_text("\n".join(rows))
    examination = examine(tmp_path / "labels.jsonl", policy=Policy(min_class_size=1))
    assert examination.counts == {"x": {"train": 2}, "y": {"train": 1}}
    assert "2 labels of texts" in printed(examination)
    (tmp_path / "tags.jsonl").write_text('{"tokens": ["a", "b"], "tags": ["O", "B-x"]}\n' * 3)
    examination = examine(tmp_path / "tags.jsonl")
    assert examination.counts == {"B-x": {"train": 3}, "O": {"train": 3}}
    assert "2 tags of texts" in printed(examination)


def test_all_public_sets_are_healthy(shared_data: Path) -> None:
    for name in ("banking77", "movie_polarity", "sms_spam", "stsb_en", "wnut17_ner", "clothing10", "grocery12"):
        assert examine(shared_data / name).healthy, name
