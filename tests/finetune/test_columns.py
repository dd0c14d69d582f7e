from __future__ import annotations

import pytest

from finetune.columns import ColumnNames, Columns, choose_columns
from finetune.rows import Row, Rows
from models.errors import DatasetInvalid
from models.task import Task


def choose(
    header: str, named: ColumnNames | None = None, *, task: Task | None = None, first: dict[str, object] | None = None
) -> Columns:
    columns = tuple(name.strip() for name in header.split(","))
    rows = () if first is None else (Row(line=1, cells=first),)
    return choose_columns(Rows(file="data.csv", columns=columns, rows=rows), named or ColumnNames(), task)


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


@pytest.mark.parametrize(
    ("header", "content", "text_pair", "label"),
    [
        ("text_a,text_b,score", "text_a", "text_b", "score"),
        ("id,Sentence1,Sentence2,label", "Sentence1", "Sentence2", "label"),
        ("hypothesis,premise,label", "premise", "hypothesis", "label"),
        ("question1,question2,class", "question1", "question2", "class"),
        ("text,text_pair,label", "text", "text_pair", "label"),
        ("query,passage,label,score", "query", "passage", "label"),
    ],
)
def test_a_pair_is_known_by_its_columns(header: str, content: str, text_pair: str, label: str) -> None:
    chosen = choose(header)
    assert chosen == Columns(modality="text", content=content, text_pair=text_pair, label=label)


def test_a_pair_can_be_named() -> None:
    named = ColumnNames(text="left", text_pair="right")
    assert choose("left,right,label", named).text_pair == "right"
    assert choose("text,answer,label", ColumnNames(text_pair="answer")).content == "text"
    assert choose("text,question1,question2,label", ColumnNames(text_pair="question2")).content == "question1"


def test_one_text_of_a_pair_can_be_named_alone() -> None:
    chosen = choose("text_a,text_b,label", ColumnNames(text="text_b"))
    assert (chosen.content, chosen.text_pair) == ("text_b", None)


def test_a_score_is_the_label_where_there_is_no_other() -> None:
    assert choose("text,score").label == "score"
    assert choose("text,score,label").label == "label"
    with pytest.raises(DatasetInvalid, match="'score', 'rating' may each hold the label"):
        choose("text,score,rating")


def test_a_group_is_known_by_its_name_or_named() -> None:
    assert choose("text,label,Group_ID").group == "Group_ID"
    assert choose("text,label,author", ColumnNames(group="author")).group == "author"
    assert choose("text,group", ColumnNames(label="group")).group is None
    with pytest.raises(DatasetInvalid, match="has no column 'writer'"):
        choose("text,label,author", ColumnNames(group="writer"))
    with pytest.raises(DatasetInvalid, match="'label' cannot be both group and label"):
        choose("text,label", ColumnNames(group="label", label="label"))


def test_words_and_tags_are_known_by_their_lists() -> None:
    lists: dict[str, object] = {"tokens": ["a"], "ner_tags": ["O"], "text": ["a"], "label": ["O"]}
    chosen = choose("id,tokens,ner_tags", first=lists)
    assert (chosen.content, chosen.label, chosen.tagged) == ("tokens", "ner_tags", True)
    assert choose("text,label", ColumnNames(text="text", label="label"), first=lists).tagged
    assert not choose("text,tags", first={"text": "a", "tags": ["x"]}).tagged


def test_words_and_tags_can_be_asked_for() -> None:
    chosen = choose("text,label", task=Task.TOKEN_CLASSIFICATION, first={"text": "a b", "label": "O O"})
    assert (chosen.content, chosen.label, chosen.tagged) == ("text", "label", True)
    for named in (ColumnNames(image="text"), ColumnNames(text_pair="text")):
        with pytest.raises(DatasetInvalid, match="which neither images nor pairs have"):
            choose("text,label", named, task=Task.TOKEN_CLASSIFICATION)


@pytest.mark.parametrize(
    ("header", "named", "words"),
    [
        ("text_a,text_b,premise,hypothesis,label", ColumnNames(), "more than one pair of columns"),
        ("text_a,text_b,label", ColumnNames(text="text_a", text_pair="text_a"), "cannot be both texts of a pair"),
        ("text,label", ColumnNames(text="text", text_pair="label", label="label"), "cannot be both text and label"),
        ("image,text_a,text_b,label", ColumnNames(), "name one: --text-column or --image-column"),
        ("image,text_b,label", ColumnNames(image="image", text_pair="text_b"), "asked for texts and images"),
    ],
)
def test_a_pair_that_does_not_fit_is_refused(header: str, named: ColumnNames, words: str) -> None:
    with pytest.raises(DatasetInvalid, match=words):
        choose(header, named)
