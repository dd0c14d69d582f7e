from __future__ import annotations

import os
from pathlib import Path

import pytest

from finetune.columns import ColumnNames
from finetune.example import Reading
from finetune.table import find_tables, read_tables
from models.errors import DatasetInvalid
from models.task import Task


def read(
    folder: Path,
    content: str,
    name: str = "data.csv",
    *,
    columns: ColumnNames | None = None,
    task: Task | None = None,
) -> Reading:
    (folder / name).write_text(content)
    return read_tables(folder, {None: name}, columns=columns, task=task)


def refusal(folder: Path, content: str, name: str = "data.csv", *, task: Task | None = None) -> DatasetInvalid:
    with pytest.raises(DatasetInvalid) as caught:
        read(folder, content, name, task=task)
    return caught.value


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    assert "holds no rows" in refusal(tmp_path, "text,label\n").message


def test_labels_and_texts_are_kept_verbatim(tmp_path: Path) -> None:
    reading = read(tmp_path, 'text,label\n" a ",1\nb,01\nc, 1\nd,nan\ne,=cmd()\n')
    assert [example.label for example in reading.splits["train"]] == ["1", "01", " 1", "nan", "=cmd()"]
    assert reading.splits["train"][0].text == " a "
    assert reading.findings == ()


def test_json_labels_become_text_and_mixed_types_are_said(tmp_path: Path) -> None:
    labels = ['"1"', '"x"', '"y"', "1", "true", "2.5"]
    lines = [f'{{"text": "t{index}", "label": {label}}}' for index, label in enumerate(labels)]
    reading = read(tmp_path, "\n".join(lines), name="data.jsonl")
    assert [example.label for example in reading.splits["train"]] == ["1", "x", "y", "1", "true", "2.5"]
    (finding,) = reading.findings
    assert (finding.code, finding.count) == ("mixed_label_types", 3)
    assert finding.examples == ("data.jsonl:4", "data.jsonl:5", "data.jsonl:6")


def test_json_labels_of_one_type_are_nothing_to_report(tmp_path: Path) -> None:
    assert read(tmp_path, '{"text": "a", "label": 1}\n{"text": "b", "label": 0}\n', name="data.jsonl").findings == ()


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ('{"text": "a"}', "the label 'label' is empty"),
        ('{"text": "a", "label": null}', "the label 'label' is empty"),
        ('{"text": "a", "label": " "}', "the label 'label' is empty"),
        ('{"text": "a", "label": ["x", "y"]}', "give each row one label"),
        ('{"text": "a", "label": 1e999}', "give each row one label"),
        ('{"label": "x"}', "'text' is missing"),
        ('{"text": 5, "label": "x"}', "'text' is not a string"),
        (r'{"text": "\ud800", "label": "x"}', "half of a surrogate pair"),
        (r'{"text": "a", "label": "\ud800"}', "half of a surrogate pair"),
    ],
)
def test_an_unusable_row_is_refused_with_its_line(tmp_path: Path, row: str, words: str) -> None:
    error = refusal(tmp_path, '{"text": "a", "label": "x"}\n' + row + "\n", name="data.jsonl")
    assert (error.file, error.line) == ("data.jsonl", 2)
    assert words in error.message


def test_a_null_text_is_an_empty_one(tmp_path: Path) -> None:
    assert read(tmp_path, '{"text": null, "label": "x"}\n', name="data.jsonl").splits["train"][0].text == ""


def test_a_split_column_is_honoured(tmp_path: Path) -> None:
    reading = read(tmp_path, "text,label,split\na,x,train\nb,x,Validation\nc,x,test\n")
    assert reading.given_splits
    assert {split: [example.text for example in examples] for split, examples in reading.splits.items()} == {
        "train": ["a"],
        "val": ["b"],
        "test": ["c"],
    }


def test_an_unknown_split_is_refused_with_its_line(tmp_path: Path) -> None:
    error = refusal(tmp_path, "text,label,split\na,x,train\nb,x,fold 3\n")
    assert error.line == 3
    assert 'must be train, val or test, not "fold 3"' in error.message


def test_one_table_for_each_split(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\na,x\n")
    (tmp_path / "dev.jsonl").write_text('{"text": "b", "label": "x"}\n')
    (tmp_path / "test.tsv").write_text("sentence\tclass\nc\tx\n")
    (tmp_path / "SOURCE.md").write_text("from afar")
    files = find_tables(tmp_path)
    assert files == {"train": "train.csv", "val": "dev.jsonl", "test": "test.tsv"}
    reading = read_tables(tmp_path, files)
    assert reading.given_splits
    assert [reading.splits[split][0].text for split in ("train", "val", "test")] == ["a", "b", "c"]
    assert reading.splits["val"][0].source == "dev.jsonl:1"


def test_two_tables_for_one_split_are_refused(tmp_path: Path) -> None:
    for name in ("train.csv", "train.tsv"):
        (tmp_path / name).touch()
    with pytest.raises(DatasetInvalid, match=r"'train.csv' and 'train.tsv' both mean the train split"):
        find_tables(tmp_path)


def test_tables_without_one_for_training_are_none(tmp_path: Path) -> None:
    (tmp_path / "test.csv").touch()
    assert find_tables(tmp_path) == {}


def test_tables_of_two_modalities_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\na,x\n")
    (tmp_path / "test.csv").write_text("image,label\na.jpg,x\n")
    with pytest.raises(DatasetInvalid, match=r"'train.csv' holds texts and 'test.csv' images"):
        read_tables(tmp_path, find_tables(tmp_path))


def test_images_are_found_from_the_tables_folder(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.jpg").write_bytes(b"one")
    reading = read(tmp_path, "image_path,label\nimages/1.jpg,x\n")
    assert reading.modality == "image"
    (example,) = reading.splits["train"]
    assert (example.source, example.read(), example.text) == ("data.csv:2", b"one", None)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "path is empty"),
        ("/etc/passwd", "leaves the table's folder"),
        ("../secret.jpg", "leaves the table's folder"),
        ("images/../../secret.jpg", "leaves the table's folder"),
        ("C:\\images\\1.jpg", "leaves the table's folder"),
        ("https://example.com/1.jpg", "is a URL"),
        ("file:///etc/passwd", "is a URL"),
        ("data:image/png;base64", "is a URL"),
        ("absent.jpg", "'absent.jpg' does not exist"),
        ("link.jpg", "'link.jpg' goes through a symbolic link"),
        (".", "not inside"),
        ("loop.jpg", "'loop.jpg' goes through a symbolic link"),
        ("linked/1.jpg", "'linked/1.jpg' goes through a symbolic link"),
        ("pipe.jpg", "'pipe.jpg' is not a regular file"),
        ("folder", "'folder' is not a regular file"),
        ("/dev/zero", "leaves the table's folder"),
        ("..\\secret.jpg", "does not exist"),
        ("%2e%2e/secret.jpg", "'%2e%2e/secret.jpg' does not exist"),
        ("x" * 300, "cannot be read"),
    ],
)
def test_an_image_path_that_leads_astray_is_refused_with_its_line(tmp_path: Path, path: str, words: str) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "1.jpg").write_bytes(b"one")
    (folder / "link.jpg").symlink_to("../secret.jpg")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "linked").symlink_to(folder)
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    error = refusal(folder, f"image,label\n1.jpg,x\n{path},x\n")
    assert (error.file, error.line) == ("data.csv", 3)
    assert words in error.message


def test_a_linked_table_in_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("text,label\na,x\n")
    (tmp_path / "train.csv").symlink_to("real.csv")
    with pytest.raises(DatasetInvalid, match="symbolic link"):
        read_tables(tmp_path, find_tables(tmp_path))


def test_numbers_with_fractions_are_amounts(tmp_path: Path) -> None:
    reading = read(tmp_path, "text,rating\na,1\nb,2.5\n")
    assert (reading.task, reading.target) == (Task.REGRESSION, "rating")
    assert [example.label for example in reading.splits["train"]] == [1.0, 2.5]
    (finding,) = reading.findings
    assert (finding.severity, finding.code, finding.count) == ("info", "task_detected", 2)
    assert finding.message == "The task is regression: 'rating' holds numbers with fractions. Name another with --task."


def test_a_task_that_is_named_is_not_guessed(tmp_path: Path) -> None:
    content = "text,label\na,1\nb,2.5\n"
    classes = read(tmp_path, content, task=Task.SINGLE_LABEL)
    assert [example.label for example in classes.splits["train"]] == ["1", "2.5"]
    labels = read(tmp_path, "text,label\na,x|y\nb,\n", task=Task.MULTI_LABEL)
    assert [example.label for example in labels.splits["train"]] == [("x", "y"), ()]
    amounts = read(tmp_path, "text,label\na,1\nb,2\n", task=Task.REGRESSION)
    assert [example.label for example in amounts.splits["train"]] == [1.0, 2.0]
    assert classes.findings == labels.findings == amounts.findings == ()


def test_all_tables_decide_together_what_the_task_is(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\na,1\nb,2\n")
    (tmp_path / "test.csv").write_text("text,label\nc,1.5\n")
    reading = read_tables(tmp_path, find_tables(tmp_path))
    assert reading.task is Task.REGRESSION
    assert [example.label for example in reading.splits["train"]] == [1.0, 2.0]


@pytest.mark.parametrize("label", ["nan", "inf", "-inf"])
def test_a_number_that_is_none_is_refused_with_its_line(tmp_path: Path, label: str) -> None:
    error = refusal(tmp_path, f"text,label\na,1.5\nb,{label}\n")
    assert (error.file, error.line) == ("data.csv", 3)
    assert f"must be a finite number, which '{label}' is not" in error.message


def test_many_whole_numbers_are_classes_and_it_is_said(tmp_path: Path) -> None:
    rows = "".join(f"t{number},{number}\n" for number in range(20))
    (finding,) = read(tmp_path, "text,label\n" + rows).findings
    assert "holds 20 whole numbers, which may be amounts: then pass --task regression" in finding.message
    assert read(tmp_path, "text,label\n" + rows[:20]).findings == ()


def test_lists_of_strings_are_labels(tmp_path: Path) -> None:
    lines = '{"text": "a", "labels": ["y", "x"]}\n{"text": "b", "labels": []}\n'
    reading = read(tmp_path, lines, name="data.jsonl")
    assert reading.task is Task.MULTI_LABEL
    assert [example.label for example in reading.splits["train"]] == [("x", "y"), ()]
    assert [finding.code for finding in reading.findings] == ["task_detected"]


def test_a_pair_of_texts(tmp_path: Path) -> None:
    reading = read(tmp_path, "text_a,text_b,score\nA man, a plan,2.5\n,b,1\n")
    first, second = reading.splits["train"]
    assert first.text == first.read() == ("A man", " a plan")
    assert second.texts == ("", "b")
    assert reading.task is Task.REGRESSION
    assert "'text_a' and 'text_b' are a pair of texts" in reading.findings[0].message


def test_a_pair_with_classes_is_single_label(tmp_path: Path) -> None:
    reading = read(tmp_path, "premise,hypothesis,label\na,b,entails\n")
    assert reading.task is Task.SINGLE_LABEL
    assert [finding.code for finding in reading.findings] == ["task_detected"]


def test_words_and_their_tags(tmp_path: Path) -> None:
    lines = [
        '{"tokens": ["Ada", "Lovelace", "wrote"], "tags": ["B-person", "I-person", "O"]}',
        '{"tokens": ["in", "London"], "tags": ["O", "I-place"]}',
    ]
    reading = read(tmp_path, "\n".join(lines), name="data.jsonl")
    assert reading.task is Task.TOKEN_CLASSIFICATION
    assert [(example.text, example.label) for example in reading.splits["train"]] == [
        ("Ada Lovelace wrote", ("B-person", "I-person", "O")),
        ("in London", ("O", "B-place")),
    ]
    assert {finding.code: finding.examples for finding in reading.findings} == {
        "task_detected": (),
        "tags_repaired": ("data.jsonl:2",),
    }


def test_words_and_their_tags_in_a_table_without_lists(tmp_path: Path) -> None:
    reading = read(tmp_path, "text,tags\nin London,O B-place\n", task=Task.TOKEN_CLASSIFICATION)
    assert [(example.text, example.label) for example in reading.splits["train"]] == [("in London", ("O", "B-place"))]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ('{"tokens": ["a", "b"], "tags": ["O"]}', "'tags' has 1 tags for 2 words; give each word one tag"),
        ('{"tokens": ["a b"], "tags": ["O"]}', "'tokens' has a word that holds white space"),
        ('{"tokens": [""], "tags": ["O"]}', "'tokens' has a word that is empty"),
        ('{"tokens": ["a"], "tags": ["PER"]}', "'tags' has 'PER' for word 1"),
        ('{"tokens": ["a"], "tags": [3]}', "'tags' is no list of strings"),
    ],
)
def test_words_that_do_not_fit_their_tags_are_refused_with_their_line(tmp_path: Path, row: str, words: str) -> None:
    error = refusal(tmp_path, '{"tokens": ["a"], "tags": ["O"]}\n' + row + "\n", name="data.jsonl")
    assert (error.file, error.line) == ("data.jsonl", 2)
    assert words in error.message


def test_images_with_amounts_and_with_several_labels(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(b"one")
    amounts = read(tmp_path, "image,label\n1.jpg,2.5\n")
    assert [(example.read(), example.label) for example in amounts.splits["train"]] == [(b"one", 2.5)]
    labels = read(tmp_path, '{"image": "1.jpg", "labels": ["x"]}\n', name="data.jsonl")
    assert [example.label for example in labels.splits["train"]] == [("x",)]


def test_groups_are_read_as_text_and_may_be_empty(tmp_path: Path) -> None:
    lines = [f'{{"text": "t", "label": "x", "group": {group}}}' for group in ('"a"', "1", "null", '" "')]
    reading = read(tmp_path, "\n".join(lines), name="data.jsonl")
    assert [example.group for example in reading.splits["train"]] == ["a", "1", None, None]
    error = refusal(tmp_path, '{"text": "t", "label": "x", "group": ["a"]}\n', name="data.jsonl")
    assert (error.line, "'group' is no string" in error.message) == (1, True)


def test_tables_of_texts_and_of_pairs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text_a,text_b,label\na,b,x\n")
    (tmp_path / "test.csv").write_text("text,label\na,x\n")
    with pytest.raises(DatasetInvalid, match=r"'train.csv' holds pairs and 'test.csv' texts"):
        read_tables(tmp_path, find_tables(tmp_path))
