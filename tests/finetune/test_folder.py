from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from finetune.example import Reading, Split
from finetune.folder import read_folder
from models.errors import DatasetInvalid


def make(root: Path, *files: str) -> Path:
    """Writes files whose content is their own path."""
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file)
    return root


def pairs(reading: Reading, split: Split = "train") -> list[tuple[str, str]]:
    return [(example.source, example.label) for example in reading.splits[split]]


def test_class_folders(tmp_path: Path) -> None:
    reading = read_folder(make(tmp_path, "dog/1.png", "cat/2.JPG", "cat/1.jpg", "SOURCE.md"))
    assert reading.modality == "image"
    assert not reading.given_splits
    assert reading.findings == ()
    assert pairs(reading) == [("cat/1.jpg", "cat"), ("cat/2.JPG", "cat"), ("dog/1.png", "dog")]
    first = reading.splits["train"][0]
    assert first.digest == hashlib.sha256(b"cat/1.jpg").hexdigest()
    assert first.read() == b"cat/1.jpg"
    assert first.text is None


@pytest.mark.parametrize("val", ["val", "valid", "validation", "dev", "Val"])
def test_split_folders(tmp_path: Path, val: str) -> None:
    reading = read_folder(make(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", f"{val}/cat/1.jpg", "test/dog/1.jpg"))
    assert reading.given_splits
    assert pairs(reading, "train") == [("train/cat/1.jpg", "cat"), ("train/dog/1.jpg", "dog")]
    assert pairs(reading, "val") == [(f"{val}/cat/1.jpg", "cat")]
    assert pairs(reading, "test") == [("test/dog/1.jpg", "dog")]


def test_train_and_val_suffice(tmp_path: Path) -> None:
    reading = read_folder(make(tmp_path, "train/cat/1.jpg", "val/cat/1.jpg"))
    assert set(reading.splits) == {"train", "val"}


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    reading = read_folder(make(tmp_path, "bus/1.jpg", "train/1.jpg"))
    assert pairs(reading) == [("bus/1.jpg", "bus"), ("train/1.jpg", "train")]


def test_two_folders_for_one_split_are_refused(tmp_path: Path) -> None:
    make(tmp_path, "train/cat/1.jpg", "val/cat/1.jpg", "dev/cat/1.jpg")
    with pytest.raises(DatasetInvalid, match="'dev', 'val' all mean the val split"):
        read_folder(tmp_path)


def test_text_files(tmp_path: Path) -> None:
    make(tmp_path, "bad/1.txt", "good/1.txt")
    (tmp_path / "good" / "1.txt").write_bytes("\ufeffgrüß\r\nGott\n".encode())
    reading = read_folder(tmp_path)
    assert reading.modality == "text"
    good = reading.splits["train"][1]
    assert good.text == good.read() == "grüß\r\nGott\n"
    assert good.digest == hashlib.sha256("grüß\r\nGott\n".encode()).hexdigest()


def test_text_files_in_another_encoding(tmp_path: Path) -> None:
    make(tmp_path, "good/1.txt", "bad/1.txt")
    (tmp_path / "good" / "1.txt").write_bytes("fine\ncafé".encode("latin-1"))
    with pytest.raises(DatasetInvalid, match=r"^good/1.txt:2: byte 0xE9"):
        read_folder(tmp_path)
    assert read_folder(tmp_path, encoding="latin-1").splits["train"][1].text == "fine\ncafé"


def test_captions_beside_images_are_not_the_data(tmp_path: Path) -> None:
    reading = read_folder(make(tmp_path, "cat/1.jpg", "cat/1.txt", "dog/1.jpg"))
    assert pairs(reading) == [("cat/1.jpg", "cat"), ("dog/1.jpg", "dog")]
    assert [(finding.code, finding.examples) for finding in reading.findings] == [("ignored_files", ("cat/1.txt",))]


def test_what_is_passed_over_is_said(tmp_path: Path) -> None:
    make(tmp_path, "train/cat/1.jpg", "train/cat/.DS_Store", "train/cat/Thumbs.db", "train/loose.jpg")
    make(tmp_path, "train/cat/old/1.jpg", "extra/1.jpg", "LICENSE")
    (tmp_path / "train" / "dog").mkdir()
    reading = read_folder(tmp_path)
    assert pairs(reading) == [("train/cat/1.jpg", "cat")]
    assert {finding.code: finding.examples for finding in reading.findings} == {
        "empty_class": ("train/dog",),
        "ignored_folders": ("train/cat/old", "extra"),
        "ignored_files": ("train/cat/Thumbs.db", "train/loose.jpg"),
    }


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "it is empty"),
        (["SOURCE.md"], "it holds 'SOURCE.md'"),
        (["1.jpg", "2.jpg"], "it holds '1.jpg', '2.jpg'"),
        (["data/cat/1.jpg", "data/dog/1.jpg"], "it holds 'data'"),
        (["test/cat/1.jpg", "val/cat/1.jpg"], "train/<class>/"),
    ],
)
def test_a_folder_without_data_is_refused(tmp_path: Path, files: list[str], words: str) -> None:
    with pytest.raises(DatasetInvalid) as caught:
        read_folder(make(tmp_path, *files))
    assert words in caught.value.message


def test_links_and_odd_files_are_refused(tmp_path: Path) -> None:
    make(tmp_path, "secret.jpg", "data/cat/1.jpg", "data/dog/1.jpg")
    (tmp_path / "data" / "dog" / "2.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(DatasetInvalid, match=r"^dog/2.jpg: the file goes through a symbolic link"):
        read_folder(tmp_path / "data")
    (tmp_path / "data" / "dog" / "2.jpg").unlink()
    os.mkfifo(tmp_path / "data" / "dog" / "2.jpg")
    with pytest.raises(DatasetInvalid, match=r"^dog/2.jpg: the file is not a regular file"):
        read_folder(tmp_path / "data")


def test_a_linked_class_folder_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "elsewhere/1.jpg", "data/cat/1.jpg")
    (tmp_path / "data" / "dog").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DatasetInvalid, match="symbolic link"):
        read_folder(tmp_path / "data")


def test_names_of_all_scripts_are_kept(tmp_path: Path) -> None:
    names = ["e\u0301tude", "étude", "🐈", "قطة", "Cat", "cat", "new\nline", "é" * 127]
    make(tmp_path, *(f"{name}/1.jpg" for name in names))
    reading = read_folder(tmp_path)
    assert sorted(label for _, label in pairs(reading)) == sorted(names)
    assert "new\\nline/1.jpg" in [source for source, _ in pairs(reading)]


def test_a_class_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    os.makedirs(os.fsencode(tmp_path) + b"/caf\xe9")
    with pytest.raises(DatasetInvalid, match="not a name in UTF-8"):
        read_folder(tmp_path)


def test_progress_counts_files(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    read_folder(make(tmp_path, "cat/1.jpg", "dog/1.jpg"), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]


def test_a_class_whose_name_begins_with_a_dot_is_not_dropped_in_silence(tmp_path: Path) -> None:
    reading = read_folder(make(tmp_path, ".net/1.png", "java/1.png", ".DS_Store"))
    (finding,) = reading.findings
    assert (finding.code, finding.examples) == ("ignored_folders", (".net",))
    assert "dot" in finding.message
