from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import pytest

from models.errors import (
    BodyTooLarge,
    EmptyText,
    GraftworkError,
    InvalidDocument,
    InvalidInstances,
    InvalidParameter,
    UnsuitableModel,
)
from models.task import Task
from service.api.tei.model import ModelKind
from service.api.tei.rank import rerank, similarity
from service.messages import Item, unpack_pair
from tests.service.api.tei.scripted_question import ScriptedQuestion, manifest


def at_an_angle(item: Item) -> list[float]:
    """The unit vector at as many degrees as the text says."""
    degrees = math.radians(float(bytes(item)))
    return [math.cos(degrees), math.sin(degrees)]


def angles(kind: ModelKind = ModelKind.EMBEDDING) -> Any:
    asked = ScriptedQuestion(manifest(), at_an_angle)
    return asked, lambda ask, **document: json.loads(asyncio.run(ask(asked.request(document, kind))))


@pytest.mark.parametrize("kind", [ModelKind.EMBEDDING, ModelKind.CLASSIFIER])
def test_texts_are_ranked_by_the_cosine_of_their_embeddings(kind: ModelKind) -> None:
    asked, ask = angles(kind)
    found = ask(rerank, query="10", texts=["70", "10", "40", "100", "190"])
    assert [each["index"] for each in found] == [1, 2, 0, 3, 4]
    scores = [each["score"] for each in found]
    assert scores == pytest.approx([1.0, math.cos(math.radians(30)), 0.5, 0.0, -1.0], abs=1e-6)
    assert -1.0 <= min(scores) <= max(scores) <= 1.0
    assert all(set(each) == {"index", "score"} for each in found)
    assert asked.wish.form == "text"
    assert asked.wish.embedding.normalize
    assert asked.items == [b"10", b"70", b"10", b"40", b"100", b"190"]


def test_texts_come_along_where_they_are_asked_for() -> None:
    _, ask = angles()
    found = ask(rerank, query="0", texts=["90", "0"], return_text=True, raw_scores=True)
    assert [each["text"] for each in found] == ["0", "90"]


def test_sentences_keep_their_order() -> None:
    asked, ask = angles()
    inputs = {"source_sentence": "0", "sentences": ["90", "0", "60"] * 3}
    assert ask(similarity, inputs=inputs, parameters={"truncate": True}) == pytest.approx([0, 1, 0.5] * 3, abs=1e-6)
    assert asked.wish.truncate


def test_a_model_that_gives_pairs_a_value_ranks_by_it() -> None:
    def difference(item: Item) -> list[float]:
        first, second = unpack_pair(bytes(item))
        return [float(first) - float(second)]

    asked = ScriptedQuestion(manifest(Task.REGRESSION, ("likeness",), "joint"), difference)
    request = asked.request({"query": "10", "texts": ["4", "1", "7", "5"]}, ModelKind.RERANKER)
    found = json.loads(asyncio.run(rerank(request)))
    assert [(each["index"], each["score"]) for each in found] == [(1, 9.0), (0, 6.0), (3, 5.0), (2, 3.0)]
    assert asked.wish.outputs == ("value",)
    assert asked.bytes == 4 * len("10")


def test_a_query_is_not_multiplied_without_end() -> None:
    asked = ScriptedQuestion(manifest(Task.REGRESSION, ("likeness",), "joint"), lambda item: [0.0])
    request = asked.request({"query": "a" * (1 << 20), "texts": ["b"] * 17}, ModelKind.RERANKER)
    with pytest.raises(BodyTooLarge, match="fewer texts"):
        asyncio.run(rerank(request))
    assert (asked.items, asked.bytes) == ((), 0)


def test_a_model_that_gives_pairs_labels_cannot_rank() -> None:
    asked = ScriptedQuestion(manifest(pair="joint"), at_an_angle)
    with pytest.raises(UnsuitableModel, match="--tei-model"):
        asyncio.run(rerank(asked.request({"query": "1", "texts": ["2"]})))
    as_backbone = asked.request({"query": "1", "texts": ["1"]}, ModelKind.EMBEDDING)
    assert json.loads(asyncio.run(rerank(as_backbone)))[0]["score"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ({"texts": ["1"]}, InvalidDocument),
        ({"query": "1"}, InvalidDocument),
        ({"query": 1, "texts": ["1"]}, InvalidInstances),
        ({"query": "1", "texts": "1"}, InvalidInstances),
        ({"query": "1", "texts": [["1"]]}, InvalidInstances),
        ({"query": "1", "texts": []}, EmptyText),
        ({"query": "1", "texts": ["1"], "return_text": "yes"}, InvalidParameter),
        ({"query": "1", "texts": ["1"], "truncation_direction": "left"}, InvalidParameter),
    ],
    ids=str,
)
def test_what_cannot_be_ranked_is_refused(document: Any, kind: type[GraftworkError]) -> None:
    _, ask = angles()
    with pytest.raises(kind):
        ask(rerank, **document)


@pytest.mark.parametrize(
    "inputs", [None, [], "1", {}, {"source_sentence": "1"}, {"source_sentence": ["1"], "sentences": ["1"]}], ids=str
)
def test_what_has_no_similarity_is_refused(inputs: Any) -> None:
    _, ask = angles()
    with pytest.raises((InvalidDocument, InvalidInstances)):
        ask(similarity, inputs=inputs)
