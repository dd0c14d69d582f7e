"""Every task, and pairs of texts, asked of the real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.head import best
from models.predictor import Predictor
from models.repository import ModelRepository
from service.client import Client, Value
from service.worker.registry import Registry
from tests.server_process import Reply, ServerProcess, ready_server
from tests.service.answers import TOLERANCE, check_refusal
from tests.tiny_models import TAGS, TOPICS, TorchEngines


@pytest.fixture(scope="module")
def tasks_server(tasks_on_disk: Path) -> Iterator[ServerProcess]:
    with ready_server(tasks_on_disk) as server:
        yield server


@pytest.fixture(scope="module")
def registry(tasks_on_disk: Path) -> Registry:
    return Registry(ModelRepository(tasks_on_disk), TorchEngines())


def predictor(registry: Registry, name: str) -> Predictor:
    return registry.load(name, 1).predictor


def predictions(reply: Reply) -> Any:
    assert reply.status == 200, reply.body
    return reply.json()["predictions"]


TEXTS = ["one of them", "another", "a third, longer text 123"]
PAIRS = [("one of them", "another"), ("a", "longer than the first one"), ("a", "a")]


def test_multi_label(tasks_server: ServerProcess, registry: Registry) -> None:
    wanted = predictor(registry, "topics").predict(TEXTS).numpy()
    for query, listed in (("", 4), ("?top_k=1", 1)):
        found = predictions(tasks_server.predict("topics", TEXTS, query))
        for each, scores_C in zip(found, wanted, strict=True):
            ranking = best(scores_C, len(TOPICS))
            assert each["labels"] == [TOPICS[i] for i in ranking if scores_C[i] >= 0.5]
            assert list(each["scores"].items()) == [
                (TOPICS[i], pytest.approx(scores_C[i], abs=TOLERANCE)) for i in ranking[:listed]
            ]


def test_regression(tasks_server: ServerProcess, registry: Registry) -> None:
    wanted = predictor(registry, "prices").predict(TEXTS)[:, 0].tolist()
    for each, value in zip(predictions(tasks_server.predict("prices", TEXTS)), wanted, strict=True):
        assert each["value"] == pytest.approx(value, abs=TOLERANCE)
        assert each["interval"] == pytest.approx([value - 0.5, value + 0.5], abs=TOLERANCE)


def test_token_classification(tasks_server: ServerProcess, registry: Registry) -> None:
    text = "ab 😀 cd\tef gh  x1 yz a b c"
    tags = [TAGS[i] for i in predictor(registry, "names").predict([text]).argmax(1).tolist()]
    assert len(tags) == len(text.split())
    (found,) = predictions(tasks_server.predict("names", [text]))
    covered = set()
    for entity in found["entities"]:
        assert entity["text"] == text[entity["start"] : entity["end"]]
        words = range(len(text[: entity["start"]].split()), len(text[: entity["end"]].split()))
        assert [tags[word][2:] for word in words] == [entity["label"]] * len(words)
        assert 0 <= entity["score"] <= 1
        covered.update(words)
    assert covered == {word for word, tag in enumerate(tags) if tag != "O"}
    assert len(covered) > 0
    (cut,) = predictions(tasks_server.predict("names", [text * 20], "?truncate=true"))
    assert cut["truncated"] is True
    assert max(entity["end"] for entity in cut["entities"]) < len(text * 20)


@pytest.mark.parametrize("name", ["follows", "likeness"])
def test_pairs(tasks_server: ServerProcess, registry: Registry, name: str) -> None:
    wanted = predictor(registry, name).predict(PAIRS)
    objects: list[object] = [{"text": first, "text_pair": second} for first, second in PAIRS]
    lists: list[object] = [list(pair) for pair in PAIRS]
    for instances in (objects, lists):
        body = json.dumps({"instances": instances}).encode()
        reply = tasks_server.request("POST", f"/v1/models/{name}:predict", body, {"content-type": "application/json"})
        for each, scores_C in zip(predictions(reply), wanted.tolist(), strict=True):
            if name == "likeness":
                assert each["value"] == pytest.approx(scores_C[0], abs=1e-4)
            else:
                assert each["scores"] == pytest.approx(
                    dict(zip(("yes", "no", "maybe"), scores_C, strict=True)), abs=1e-4
                )


def test_the_client_sends_pairs(tasks_server: ServerProcess, registry: Registry) -> None:
    with Client(f"http://127.0.0.1:{tasks_server.port}") as client:
        found = client.predict("likeness", PAIRS).predictions
    wanted = predictor(registry, "likeness").predict(PAIRS)[:, 0].tolist()
    assert [each.value for each in found if isinstance(each, Value)] == pytest.approx(wanted, abs=1e-4)


def test_a_text_where_a_pair_is_read_and_a_pair_where_a_text_is_read(tasks_server: ServerProcess) -> None:
    def send(name: str, instance: object) -> Reply:
        body = json.dumps({"instances": ["fine" if name == "letters" else ["a", "b"], instance]}).encode()
        return tasks_server.request("POST", f"/v1/models/{name}:predict", body, {"content-type": "application/json"})

    for name in ("follows", "likeness"):
        reply = send(name, "a single text")
        check_refusal(reply, 422, "invalid_instances")
        assert 'instance 1 (/instances/1): this model reads pairs of texts; send {"text"' in reply.json()["detail"]
        check_refusal(send(name, ["a", " "]), 422, "empty_text")
        check_refusal(send(name, ["a " * 900, "b"]), 422, "context_length_exceeded")
    for pair in (["a", "b"], {"text": "a", "text_pair": "b"}):
        reply = send("letters", pair)
        check_refusal(reply, 422, "invalid_instances")
        assert "instance 1 (/instances/1): this model reads single texts; send a string" in reply.json()["detail"]
    plain = tasks_server.request("POST", "/v1/models/follows:predict", b"a text", {"content-type": "text/plain"})
    check_refusal(plain, 422, "invalid_instances")


def test_the_metadata_tells_the_task(tasks_server: ServerProcess) -> None:
    for name, task, pair in [
        ("topics", "multi-label", None),
        ("names", "token-classification", None),
        ("likeness", "regression", "separate"),
    ]:
        metadata = tasks_server.request("GET", f"/v1/models/{name}/metadata").json()
        assert (metadata["task"], metadata["preprocessor"]["pair"]) == (task, pair)
