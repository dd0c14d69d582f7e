from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.example import Example, text_example
from finetune.image_hash import ImageHash
from finetune.split import make_splits, split_dataset
from models.errors import DatasetInvalid, InvalidParameter
from models.task import Task
from tests.finetune.datasets import dataset

EXAMPLES = st.lists(
    st.builds(
        lambda text, label, source: text_example(f"text {text}", label=label, source=str(source)),
        st.integers(0, 30),
        st.sampled_from("abc"),
        st.integers(0, 99),
    ),
    max_size=60,
)


@given(EXAMPLES, st.floats(0.01, 0.99))
def test_a_split_is_a_partition_by_content_whatever_the_order(examples: list[Example], share: float) -> None:
    train, test = make_splits(examples, test_share=share)
    assert Counter(train) + Counter(test) == Counter(examples)
    assert not {example.digest for example in train} & {example.digest for example in test}
    assert {example.label for example in train} == {example.label for example in examples}
    sizes = Counter(example.label for example in examples)
    for label, held_out in Counter(example.label for example in test).items():
        assert held_out <= max(1, round(share * sizes[label]))
    assert make_splits(list(reversed(examples)), test_share=share) == (train, test)


@given(st.integers(2, 40), st.floats(0.01, 0.99))
def test_of_distinct_content_exactly_the_share_is_held_out(size: int, share: float) -> None:
    examples = [text_example(str(index), label="x", source="") for index in range(size)]
    train, test = make_splits(examples, test_share=share)
    assert len(test) == min(max(1, round(share * size)), size - 1)
    assert max(example.digest for example in test) < min(example.digest for example in train)


def test_the_split_is_the_same_for_ever() -> None:
    examples = [text_example(text, label="x", source=text) for text in "abcdefghij"]
    _, test = make_splits(examples)
    assert [example.text for example in test] == ["j", "d"]  # sha256 189f40..., 18ac3e...


def test_content_with_two_labels_and_copies_of_one_content_stay_in_training() -> None:
    conflicting = [text_example("same", label=label, source=label) for label in ("x", "y")]
    copies = [text_example("copy", label="z", source=str(index)) for index in range(3)]
    train, test = make_splits([*conflicting, *copies])
    assert len(train) == 5
    assert test == ()


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_must_leave_something_on_both_sides(share: float) -> None:
    with pytest.raises(InvalidParameter, match="between 0 and 1"):
        make_splits([], test_share=share)


def test_a_given_test_split_is_kept() -> None:
    data = dataset(("train", "a", "x"), ("train", "b", "x"), ("test", "c", "x"))
    assert split_dataset(data) is data


def test_a_test_split_is_made_out_of_train_and_shares_nothing_with_val() -> None:
    data = dataset(*[("train", text, "x") for text in "abcdefghij"], ("val", "d", "x"), ("val", "v", "x"))
    made = split_dataset(data)
    assert made.split("val") == data.split("val")
    assert [example.text for example in made.split("test")] == ["j", "f"]
    assert len(made.split("train")) == 8
    assert not {example.digest for example in made.pool} & {example.digest for example in made.split("test")}


def test_a_dataset_of_copies_cannot_be_split() -> None:
    with pytest.raises(DatasetInvalid, match="too few distinct"):
        split_dataset(dataset(("train", "a", "x"), ("train", "a", "x")))


GROUPED = st.lists(
    st.builds(
        lambda text, label, group: text_example(f"text {text}", label=label, source="", group=group),
        st.integers(0, 40),
        st.sampled_from("abc"),
        st.sampled_from([None, "g", "h", "i", "j", "k"]),
    ),
    max_size=60,
)


@given(GROUPED, GROUPED, st.floats(0.01, 0.99))
def test_no_group_and_no_content_is_divided(examples: list[Example], val: list[Example], share: float) -> None:
    train, test = make_splits(examples, test_share=share, kept=val)
    assert Counter(train) + Counter(test) == Counter(examples)
    for side in ("group", "digest"):
        known = {getattr(example, side) for example in (*train, *val)} - {None}
        assert not known & {getattr(example, side) for example in test}
    assert {example.label for example in train} == {example.label for example in examples}
    assert make_splits(list(reversed(examples)), test_share=share, kept=val[::-1]) == (train, test)


def test_groups_that_share_a_content_stay_together() -> None:
    chained = [("a", "g"), ("b", "g"), ("b", "h"), ("c", "h"), ("c", None)]
    chain = [text_example(text, label="x", source="", group=group) for text, group in chained]
    others = [text_example(str(number), label="x", source="", group=f"other {number}") for number in range(20)]
    train, test = make_splits([*chain, *others], test_share=0.5)
    assert len({example in train for example in chain}) == 1
    assert len(test) in range(8, 14)


def test_about_the_share_of_many_groups_is_held_out_in_every_class() -> None:
    examples = [
        text_example(f"{group} {number}", label="xy"[number % 2], source="", group=str(group))
        for group in range(50)
        for number in range(4)
    ]
    _, test = make_splits(examples)
    assert Counter(example.label for example in test) == {"x": 20, "y": 20}
    assert len({example.group for example in test}) == 10


def test_of_few_groups_the_smallest_is_held_out() -> None:
    sizes = {"large": 10, "small": 6, "middle": 8}
    examples = [
        text_example(f"{group} {number}", label="xy"[number % 2], source="", group=group)
        for group, size in sizes.items()
        for number in range(size)
    ]
    _, test = make_splits(examples)
    assert Counter(example.group for example in test) == {"small": 6}


def test_one_group_alone_cannot_be_split() -> None:
    data = dataset(*[("train", text, "x") for text in "abcdefghij"])
    train = tuple(replace(example, group="g") for example in data.split("train"))
    with pytest.raises(DatasetInvalid, match="too few distinct groups"):
        split_dataset(replace(data, splits={"train": train}))


def test_images_of_equal_pixels_are_not_divided() -> None:
    look = ImageHash(pixels="p", perceptual=None, thumbnail=b"")
    twins = [Example(source=name, label="x", digest=name * 64, hash=look) for name in "0f"]
    others = [Example(source=name, label="x", digest=name * 64) for name in "abcde"]
    _, test = make_splits([*twins, *others], test_share=0.6)
    assert [example.source for example in test] == ["0", "a", "b", "f"]


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=80, unique=True), st.floats(0.01, 0.6))
def test_amounts_are_held_out_from_everywhere(values: list[float], share: float) -> None:
    examples = [text_example(str(value), label=value, source="") for value in values]
    train, test = make_splits(examples, task=Task.REGRESSION, test_share=share)
    assert train
    assert 1 <= len(test) <= max(10, 2 * share * len(values))


def test_amounts_are_held_out_by_tenths() -> None:
    examples = [text_example(f"t{value}", label=float(value), source="") for value in range(100)]
    _, test = make_splits(examples, task=Task.REGRESSION)
    assert Counter(
        int(float(example.label)) // 10 for example in test if isinstance(example.label, float)
    ) == dict.fromkeys(range(10), 2)


LABELS = st.lists(st.frozensets(st.sampled_from("abcd")).map(lambda labels: tuple(sorted(labels))), max_size=40)


@given(LABELS, st.floats(0.01, 0.9))
def test_every_label_of_many_stays_in_training(labels: list[tuple[str, ...]], share: float) -> None:
    examples = [text_example(str(number), label=label, source="") for number, label in enumerate(labels)]
    train, test = make_splits(examples, task=Task.MULTI_LABEL, test_share=share)
    assert Counter(train) + Counter(test) == Counter(examples)
    assert {name for example in train for name in example.label} == {name for one in labels for name in one}


def test_rare_labels_and_rare_types_of_entities_are_tested_too() -> None:
    many = [text_example(f"m{n}", label=("a", "rare") if n < 5 else ("a",), source="") for n in range(100)]
    _, test = make_splits(many, task=Task.MULTI_LABEL)
    assert Counter(example.label for example in test) == {("a", "rare"): 1, ("a",): 19}
    tags = [text_example(f"t{n}", label=("B-x", "B-rare") if n < 5 else ("O",), source="") for n in range(100)]
    _, test = make_splits(tags, task=Task.TOKEN_CLASSIFICATION)
    assert Counter(example.label for example in test) == {("B-x", "B-rare"): 1, ("O",): 19}
