from __future__ import annotations

import pytest

from finetune.columns import ColumnNames, Columns, choose_columns
from finetune.rows import Rows
from models.errors import DatasetInvalid


def choose(header: str, named: ColumnNames | None = None) -> Columns:
    columns = tuple(name.strip() for name in header.split(","))
    return choose_columns(Rows(file="data.csv", columns=columns, rows=()), named or ColumnNames())


@pytest.mark.parametrize(
    ("header", "modality", "content", "label", "split"),
    [
        ("text,label", "text", "text", "label", None),
        ("Sentence,Category", "text", "Sentence", "Category", None),
        ("intent,utterance", "text", "utterance", "intent", None),
        ("id, review ,sentiment,x", "text", "review", "sentiment", None),
        ("image_path,class,Split", "image", "image_path", "class", "Split"),
    ],
)
def test_columns_are_guessed_from_the_header(
    header: str, modality: str, content: str, label: str, split: str | None
) -> None:
    chosen = choose(header)
    assert (chosen.modality, chosen.content, chosen.label, chosen.split) == (modality, content, label, split)


def test_columns_can_be_named() -> None:
    chosen = choose("text,label,gold", ColumnNames(text="label", label="gold"))
    assert (chosen.modality, chosen.content, chosen.label) == ("text", "label", "gold")
    assert choose("a,b", ColumnNames(image="a", label="b")).modality == "image"


def test_naming_one_column_settles_an_ambiguous_header() -> None:
    with pytest.raises(DatasetInvalid, match="name one: --text-column or --image-column"):
        choose("path,text,label")
    assert choose("path,text,label", ColumnNames(text="text")).content == "text"


@pytest.mark.parametrize(
    ("header", "columns", "words"),
    [
        ("a,b", None, "no column is known to hold the label among 'a', 'b'; name it with --label-column"),
        ("a,label", None, "hold the text among 'a', 'label'; name it with --text-column or --image-column"),
        ("text,label,class", None, "'label', 'class' may each hold the label; name one with --label-column"),
        ("text,review,label", None, "'text', 'review' may each hold the text; name one with --text-column"),
        ("file,path,label", None, "'file', 'path' may each hold the image; name one with --image-column"),
        ("text,label", ColumnNames(label="labels"), "has no column 'labels' but 'text', 'label'; did you mean 'label'"),
        ("text,label", ColumnNames(text="txt"), "has no column 'txt'"),
        ("text,label", ColumnNames(text="text", image="text"), "name one: --text-column or --image-column"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(header: str, columns: ColumnNames | None, words: str) -> None:
    with pytest.raises(DatasetInvalid) as caught:
        choose(header, columns)
    assert words in caught.value.message
    assert caught.value.file == "data.csv"


def test_one_column_cannot_be_text_and_label() -> None:
    with pytest.raises(DatasetInvalid, match="'label' cannot be both text and label"):
        choose("text,label", ColumnNames(text="label", label="label"))
