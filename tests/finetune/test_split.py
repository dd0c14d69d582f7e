from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.example import Example, text_example
from finetune.split import make_splits, split_dataset
from models.errors import DatasetInvalid, InvalidParameter
from tests.finetune.test_dataset import dataset

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
