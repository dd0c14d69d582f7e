from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.labels import (
    classes_in,
    detect_task,
    parse_class,
    parse_label,
    parse_labels,
    parse_number,
    parse_tags,
    parse_words,
    without_classes,
)
from models.task import Task

TOKENS = Task.TOKEN_CLASSIFICATION


@pytest.mark.parametrize(
    ("cells", "task"),
    [
        (["a", "b"], Task.SINGLE_LABEL),
        (["1", "2", "3"], Task.SINGLE_LABEL),
        (["1.0", "2.0"], Task.SINGLE_LABEL),  # as a table with gaps writes its classes
        ([1, 0], Task.SINGLE_LABEL),
        ([True, False], Task.SINGLE_LABEL),
        (["1", "2.5", "n/a"], Task.SINGLE_LABEL),
        (["1_000.5", "2"], Task.SINGLE_LABEL),
        (["1", "nan"], Task.SINGLE_LABEL),
        (["2", "0.5"], Task.REGRESSION),
        (["2", " -1e-3 "], Task.REGRESSION),
        (["0.5", "nan"], Task.REGRESSION),
        ([1.0, 2.0], Task.REGRESSION),
        ([1, 2.5], Task.REGRESSION),
        ([["a"], []], Task.MULTI_LABEL),
        ([["a"], "b"], Task.SINGLE_LABEL),
        ([None, 0.5], Task.SINGLE_LABEL),
        ([], Task.SINGLE_LABEL),
    ],
)
def test_the_task_is_read_from_the_labels(cells: list[object], task: Task) -> None:
    assert detect_task(cells) is task


@pytest.mark.parametrize(
    ("cell", "label"), [(" a ", " a "), (1, "1"), (2.5, "2.5"), (True, "true"), ("🐈", "🐈"), ("قطة", "قطة")]
)
def test_a_class_is_kept_verbatim(cell: object, label: str) -> None:
    assert parse_class(cell) == parse_label(Task.SINGLE_LABEL, cell) == label


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        (["b", "a", "b"], ("a", "b")),
        ([], ()),
        ([1, True, "x y "], ("1", "true", "x y ")),
        ("b| a |b", ("a", "b")),
        ("", ()),
        (" | ", ()),
        ("a", ("a",)),
    ],
)
def test_labels_of_a_list_or_of_a_cell_are_distinct_and_sorted(cell: object, labels: tuple[str, ...]) -> None:
    assert parse_labels(cell) == parse_label(Task.MULTI_LABEL, cell) == labels


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (None, "is empty; write an empty list"),
        (3, "is no list"),
        ([["a"]], "something else than strings"),
        ([0.5], "something else than strings"),
        ([None], "holds one that is empty"),
        ([" "], "holds one that is empty"),
        (["\ud800"], "holds one that holds half of a surrogate pair"),
    ],
)
def test_what_is_no_list_of_labels_is_refused(cell: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_labels(cell)


@pytest.mark.parametrize(("cell", "number"), [("2.5", 2.5), (" -1e3 ", -1000.0), (3, 3.0), (0.0, 0.0)])
def test_numbers_are_parsed(cell: object, number: float) -> None:
    found = parse_label(Task.REGRESSION, cell)
    assert isinstance(found, float)
    assert found == number


@pytest.mark.parametrize(
    "cell", ["nan", "inf", "-Infinity", "1e999", float("nan"), float("inf"), 10**400, "many", "1_0"]
)
def test_what_is_no_finite_number_is_refused(cell: object) -> None:
    with pytest.raises(ValueError, match="must be a finite number"):
        parse_number(cell)


@pytest.mark.parametrize("cell", [True, [1.0], Decimal("1.5"), {}])
def test_what_is_no_number_at_all_is_refused(cell: object) -> None:
    with pytest.raises(ValueError, match="must be a finite number, which it is not"):
        parse_number(cell)


@pytest.mark.parametrize("cell", [None, "", " "])
def test_an_empty_number_is_said_to_be_empty(cell: object) -> None:
    with pytest.raises(ValueError, match="is empty"):
        parse_number(cell)


def test_words_come_from_lists_and_from_strings() -> None:
    assert parse_words(["Ada", "🐈", "."]) == ["Ada", "🐈", "."]
    assert parse_words("Ada  wrote\ta program") == ["Ada", "wrote", "a", "program"]
    assert parse_words(None) == parse_words([]) == parse_words("") == []


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (["a", ""], "a word that is empty .*number 2"),
        (["New York"], "holds white space .'New York', number 1"),
        (["no\u00a0break"], "holds white space"),
        (["line\n"], "holds white space"),
        (["a", 1], "no list of strings"),
        (5, "no list of strings"),
        (["\ud800"], "surrogate"),
    ],
)
def test_words_that_could_not_be_taken_apart_again_are_refused(cell: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_words(cell)


@given(st.lists(st.text(min_size=1).filter(lambda word: word.split() == [word])))
def test_joined_words_can_be_taken_apart(words: list[str]) -> None:
    assert parse_words(" ".join(words)) == parse_words(words) == words


@pytest.mark.parametrize(
    ("tags", "read"),
    [
        ("O B-x I-x O", "O B-x I-x O"),
        ("I-x I-x O I-y", "B-x I-x O B-y"),
        ("B-x I-y I-y", "B-x B-y I-y"),
        ("I-x B-x I-x", "B-x B-x I-x"),
        ("O", "O"),
    ],
)
def test_an_entity_that_begins_inside_is_repaired(tags: str, read: str) -> None:
    words = ["w"] * len(tags.split())
    assert parse_tags(tags.split(), words) == (tuple(read.split()), tags != read)
    assert parse_tags(tags, words) == (tuple(read.split()), tags != read)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        (["O"], "has 1 tags for 2 words"),
        (["O", "O", "O"], "has 3 tags for 2 words"),
        (None, "has 0 tags for 2 words"),
        (["O", "PER"], "'PER' for word 2; a tag is O, B-type or I-type"),
        (["o", "O"], "'o' for word 1"),
        (["B-", "O"], "'B-' for word 1"),
        (["S-x", "O"], "'S-x' for word 1"),
        ([0, 3], "no list of strings; give each word the name of its tag"),
    ],
)
def test_what_is_no_bio_is_refused(tags: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_tags(tags, ["a", "b"])


TAG = st.sampled_from(["O", "B-x", "I-x", "B-y", "I-y"])


@given(st.lists(TAG))
def test_repaired_tags_are_bio_and_need_no_repair(tags: list[str]) -> None:
    read, repaired = parse_tags(tags, ["w"] * len(tags))
    assert [tag[1:] for tag in read] == [tag[1:] for tag in tags]
    assert parse_tags(list(read), ["w"] * len(tags)) == (read, False)
    assert repaired == (read != tuple(tags))
    for before, tag in zip(("O", *read), read, strict=False):
        assert not tag.startswith("I-") or before[2:] == tag[2:]


def test_classes_of_a_label() -> None:
    assert classes_in(Task.SINGLE_LABEL, "a") == ("a",)
    assert classes_in(Task.MULTI_LABEL, ("a", "b")) == ("a", "b")
    assert classes_in(Task.REGRESSION, 0.5) == ()
    assert classes_in(TOKENS, ("O", "B-y", "I-y", "B-x-z", "O")) == ("x-z", "y")


def test_a_label_without_some_classes() -> None:
    assert without_classes(Task.SINGLE_LABEL, "a", {"a"}) is None
    assert without_classes(Task.SINGLE_LABEL, "a", {"b"}) == "a"
    assert without_classes(Task.MULTI_LABEL, ("a", "b"), {"a", "b"}) == ()
    assert without_classes(Task.REGRESSION, 0.5, {"a"}) == 0.5
    assert without_classes(TOKENS, ("B-x", "I-x", "B-y"), {"x"}) == ("O", "O", "B-y")
