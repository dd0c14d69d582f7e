"""Every task as tensors: what they hold is what a prediction says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server_process import ServerProcess, ready_server
from tests.service.answers import TOLERANCE
from tests.service.oip_asking import in_json, infer, tensors
from tests.tiny_models import TAGS, TOPICS

TEXTS = ["one of them", "another", "a third, longer text 123"]
PAIRS = [("one of them", "another"), ("a", "longer than the first one"), ("a", "a")]


@pytest.fixture(scope="module")
def tasks_server(tasks_on_disk: Path) -> Iterator[ServerProcess]:
    with ready_server(tasks_on_disk) as server:
        yield server


def test_multi_label(tasks_server: ServerProcess) -> None:
    found = tensors(infer(tasks_server, "topics", in_json({"text": TEXTS})))
    assert set(found) == {"probabilities", "logits", "holds", "embedding"}
    for index, prediction in enumerate(tasks_server.predict("topics", TEXTS).json()["predictions"]):
        probabilities = dict(zip(TOPICS, found["probabilities"][index], strict=True))
        assert probabilities == pytest.approx(prediction["scores"], abs=TOLERANCE)
        assert {label for label, holds in zip(TOPICS, found["holds"][index], strict=True) if holds} == set(
            prediction["labels"]
        )


def test_regression(tasks_server: ServerProcess) -> None:
    found = tensors(infer(tasks_server, "prices", in_json({"text": TEXTS})))
    assert set(found) == {"value", "interval", "embedding"}
    for index, prediction in enumerate(tasks_server.predict("prices", TEXTS).json()["predictions"]):
        assert found["value"][index] == pytest.approx(prediction["value"], abs=1e-4)
        assert found["interval"][index] == pytest.approx(prediction["interval"], abs=1e-4)


def test_token_classification(tasks_server: ServerProcess) -> None:
    texts = ["ab \U0001f600 cd\tef gh  x1 yz a b c", "another"]
    found = tensors(infer(tasks_server, "names", in_json({"text": texts})))
    assert set(found) == {"entities"}
    for entities, prediction in zip(
        found["entities"], tasks_server.predict("names", texts).json()["predictions"], strict=True
    ):
        listed = json.loads(entities)
        assert [(each["label"], each["text"], each["start"], each["end"]) for each in listed] == [
            (each["label"], each["text"], each["start"], each["end"]) for each in prediction["entities"]
        ]
        assert {f"B-{each['label']}" for each in listed} <= set(TAGS)


@pytest.mark.parametrize(
    ("name", "outputs"),
    [("follows", {"probabilities", "logits", "label", "embedding"}), ("likeness", {"value", "interval"})],
)
def test_pairs(tasks_server: ServerProcess, name: str, outputs: set[str]) -> None:
    firsts, seconds = zip(*PAIRS, strict=True)
    found = tensors(infer(tasks_server, name, in_json({"text_pair": seconds, "text": firsts})))
    assert set(found) == outputs
    for index, prediction in enumerate(tasks_server.predict(name, PAIRS).json()["predictions"]):
        if "value" in outputs:
            assert found["value"][index] == pytest.approx(prediction["value"], abs=1e-4)
        else:
            assert found["label"][index] == prediction["label"]


@pytest.mark.parametrize(
    ("tensors_sent", "message"),
    [
        ({"text": ["a"]}, "the input 'text_pair' is missing; this model reads 'text' and 'text_pair'"),
        ({"text": ["a", "b"], "text_pair": ["c"]}, "there are 2 texts and 1 to be paired with them"),
    ],
)
def test_half_of_a_pair_is_refused(
    tasks_server: ServerProcess, tensors_sent: dict[str, list[str]], message: str
) -> None:
    reply = infer(tasks_server, "follows", in_json(tensors_sent))
    assert (reply.status, reply.code) == (400, "invalid_tensor")
    assert message in reply.json()["error"]


def test_a_text_that_is_too_long_is_refused_or_cut_and_the_answer_says_so(tasks_server: ServerProcess) -> None:
    texts = ["a", "a b " * 500, "b"]
    assert infer(tasks_server, "topics", in_json({"text": texts})).code == "context_length_exceeded"
    reply = infer(tasks_server, "topics", in_json({"text": texts}, parameters={"truncate": True}))
    assert reply.json()["parameters"] == {"truncated_rows": "1"}
    whole = infer(tasks_server, "topics", in_json({"text": texts[:1]}, parameters={"truncate": True}))
    assert "parameters" not in whole.json()
