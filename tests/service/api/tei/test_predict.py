from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from models.errors import (
    EmptyText,
    GraftworkError,
    InvalidInstances,
    InvalidParameter,
    TooManyInstances,
    UnsuitableModel,
)
from models.task import Task
from service.api.embedding_request import MOST_INPUTS
from service.api.tei.model import ModelKind
from service.api.tei.predict import predict, read_sequences
from service.messages import Item, pack_pair
from tests.service.api.tei.scripted_question import ScriptedQuestion, manifest

LABELS = ("none", "some", "many")


def by_length(item: Item) -> Sequence[float]:
    """The score of the label at the text's length is the highest."""
    return [1.0 - abs(len(item) - place) / 4 for place in range(len(LABELS))]


def question(task: Task = Task.SINGLE_LABEL) -> ScriptedQuestion:
    return ScriptedQuestion(manifest(task, LABELS), by_length)


def answer(asked: ScriptedQuestion, **document: Any) -> Any:
    return json.loads(asyncio.run(predict(asked.request(document))))


MIDDLE = [
    {"label": "some", "score": 1.0},
    {"label": "none", "score": 0.75},
    {"label": "many", "score": 0.75},
]


def test_one_text_is_answered_with_a_list() -> None:
    assert answer(question(), inputs="a") == answer(question(), inputs=["a"]) == MIDDLE


def test_a_batch_is_answered_with_a_list_of_lists_in_its_order() -> None:
    found = answer(question(), inputs=[["a" * (n % 3)] for n in range(10)])
    assert [each[0]["label"] for each in found] == [LABELS[n % 3] for n in range(10)]
    assert answer(question(), inputs=[["a"]]) == [MIDDLE]


def test_the_hubs_clients_get_a_list_of_lists_for_one_text() -> None:
    assert answer(question(), inputs="a", parameters={}) == [MIDDLE]
    assert answer(question(), inputs="a", parameters={"top_k": 2}) == [MIDDLE[:2]]


@pytest.mark.parametrize(
    ("document", "output"),
    [
        ({}, "probabilities"),
        ({"raw_scores": None, "parameters": None}, "probabilities"),
        ({"raw_scores": True}, "logits"),
        ({"parameters": {"function_to_apply": "none"}}, "logits"),
        ({"parameters": {"function_to_apply": "softmax"}}, "probabilities"),
    ],
)
def test_scores_are_probabilities_or_logits(document: Any, output: str) -> None:
    asked = question()
    answer(asked, inputs="a", **document)
    assert (asked.wish.outputs, asked.wish.truncate, asked.wish.form) == ((output,), False, "item")


def test_every_label_of_several_has_its_score() -> None:
    asked = question(Task.MULTI_LABEL)
    assert answer(asked, inputs="a", truncate=True, parameters={"function_to_apply": "sigmoid"}) == [MIDDLE]
    assert (asked.wish.outputs, asked.wish.truncate) == (("probabilities",), True)


def test_an_answer_has_a_size() -> None:
    asked = ScriptedQuestion(manifest(labels=[f"label {n}" for n in range(1000)]), lambda item: [0.0] * 1000)
    assert len(answer(asked, inputs=[["a"]] * 200)) == 200
    with pytest.raises(TooManyInstances, match="send at most 200 inputs"):
        answer(asked, inputs=[["a"]] * 201)


@pytest.mark.parametrize("raw", [False, True])
def test_a_value_has_the_one_label(*, raw: bool) -> None:
    asked = ScriptedQuestion(manifest(Task.REGRESSION, ("price",)), lambda item: [len(item) + 0.5])
    assert answer(asked, inputs="abc", raw_scores=raw) == [{"label": "price", "score": 3.5}]
    assert asked.wish.outputs == ("value",)


def test_pairs_are_for_models_that_read_pairs() -> None:
    assert read_sequences(["a", "b"], pairs=True).items == [pack_pair(b"a", b"b")]
    found = read_sequences([["a", "b"], ["c", "d"]], pairs=True)
    assert (found.items, found.is_batch) == ([pack_pair(b"a", b"b"), pack_pair(b"c", b"d")], True)


@pytest.mark.parametrize(
    ("inputs", "pairs", "kind", "cure"),
    [
        (["a", "b"], False, InvalidInstances, "input 0: the model reads single texts"),
        ([["a"], ["b", "c"]], False, InvalidInstances, "input 1: the model reads single texts"),
        ("a", True, InvalidInstances, "input 0: the model reads pairs"),
        ([["a", "b"], ["c"]], True, InvalidInstances, "input 1: the model reads pairs"),
        (["a", "b", "c"], False, InvalidInstances, "or a batch"),
        ([["a", "b", "c"]], True, InvalidInstances, "or a batch"),
        ([["a"], "b"], False, InvalidInstances, "input 1"),
        ([["a"], []], False, InvalidInstances, "input 1"),
        ([1], False, InvalidInstances, "input 0"),
        (["a", 1], True, InvalidInstances, "input 0"),
        (None, False, InvalidInstances, "must be"),
        ({}, False, InvalidInstances, "must be"),
        ([], False, EmptyText, "is empty"),
        ([["a"]] * (MOST_INPUTS + 1), False, TooManyInstances, "send several requests"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_other_inputs_are_refused(inputs: Any, pairs: bool, kind: type[GraftworkError], cure: str) -> None:
    with pytest.raises(kind, match=cure):
        read_sequences(inputs, pairs=pairs)


@pytest.mark.parametrize(
    "document",
    [
        {"raw_scores": 1},
        {"truncate": "yes"},
        {"truncation_direction": "left"},
        {"truncation_direction": ["right"]},
        {"parameters": []},
        {"parameters": {"top_k": 0}},
        {"parameters": {"top_k": True}},
        {"parameters": {"function_to_apply": "sigmoid"}},
        {"parameters": {"function_to_apply": []}},
    ],
    ids=str,
)
def test_what_a_model_cannot_do_is_refused(document: Any) -> None:
    with pytest.raises(InvalidParameter):
        answer(question(), inputs="a", **document)


def test_a_backbone_is_no_classifier() -> None:
    with pytest.raises(UnsuitableModel, match="--tei-model"):
        asyncio.run(predict(question().request({"inputs": "a"}, ModelKind.EMBEDDING)))
