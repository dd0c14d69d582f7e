"""OpenAI's own client against a real server."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
from numpy.typing import NDArray

from models.predictor import Predictor
from models.repository import ModelRepository
from tests.processes import wait_for
from tests.server_process import ServerProcess
from tests.service.guarded import Guarded
from tests.tiny_models import picture

TEXTS = ["where is my card?", "a", "b c d e f g", "it is lost, and so am I"]
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=0) as client:
        yield client


def unit(vectors_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return scaled


def vectors(answer: openai.types.CreateEmbeddingResponse) -> NDArray[np.float64]:
    assert [each.index for each in answer.data] == list(range(len(answer.data)))
    return np.array([each.embedding for each in answer.data])


@pytest.mark.parametrize("model", ["letters", "letters:1"])
@pytest.mark.parametrize("encoding", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
def test_texts_have_the_features_of_their_models_backbone(
    client: openai.OpenAI, predictors: Mapping[str, Predictor], model: str, encoding: Mapping[str, Any]
) -> None:
    answer = client.embeddings.create(model=model, input=TEXTS, **encoding)
    expected = unit(predictors["letters"].features(TEXTS).numpy())
    found = [
        np.frombuffer(base64.b64decode(e.embedding), "<f4") if isinstance(e.embedding, str) else e.embedding
        for e in answer.data
    ]
    assert np.array(found) == pytest.approx(expected, abs=TOLERANCE)
    assert (answer.object, answer.model) == ("list", "letters:1")
    rows = [predictors["letters"].preprocessor.prepare(text) for text in TEXTS]
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == sum(len(row.ids) for row in rows)


def test_one_text_is_a_list_of_one(client: openai.OpenAI, predictors: Mapping[str, Predictor]) -> None:
    answer = client.embeddings.create(model="moods", input=TEXTS[0])
    assert vectors(answer) == pytest.approx(unit(predictors["moods"].features(TEXTS[:1]).numpy()), abs=TOLERANCE)


def backbone(client: openai.OpenAI, modality: str) -> str:
    cards = [card.to_dict() for card in client.models.list()]
    (name,) = (card["id"] for card in cards if card["task"] == "embedding" and card["modality"] == modality)
    return str(name)


def test_a_backbone_that_is_loaded_answers_to_its_name(
    client: openai.OpenAI, predictors: Mapping[str, Predictor]
) -> None:
    name = backbone(client, "text")
    answer = client.embeddings.create(model=name, input=TEXTS)
    assert answer.model == name
    assert vectors(answer) == pytest.approx(unit(predictors["moods"].features(TEXTS).numpy()), abs=TOLERANCE)


@pytest.mark.parametrize("by_backbone", [True, False])
def test_images_come_as_data_urls(
    client: openai.OpenAI, predictors: Mapping[str, Predictor], *, by_backbone: bool
) -> None:
    files = [picture(1), picture(2, file_format="JPEG"), picture(3)]
    types = ["image/png", "image/jpeg", "IMAGE/PNG"]
    urls = [f"data:{kind};base64,{base64.b64encode(file).decode()}" for kind, file in zip(types, files, strict=True)]
    model = backbone(client, "image") if by_backbone else "colours"
    answer = client.embeddings.create(model=model, input=urls)
    assert vectors(answer) == pytest.approx(unit(predictors["colours"].features(files).numpy()), abs=1e-4)
    assert answer.usage.total_tokens == 0


@pytest.mark.parametrize("with_special_tokens", [True, False])
def test_tokens_are_as_good_as_the_text_they_are_of(
    client: openai.OpenAI, predictors: Mapping[str, Predictor], *, with_special_tokens: bool
) -> None:
    rows = [list(predictors["letters"].preprocessor.prepare(text).ids) for text in TEXTS]
    sent = rows if with_special_tokens else [row[1:-1] for row in rows]
    expected = unit(predictors["letters"].features(TEXTS).numpy())
    answer = client.embeddings.create(model="letters", input=sent)
    assert vectors(answer) == pytest.approx(expected, abs=TOLERANCE)
    assert answer.usage.prompt_tokens == sum(map(len, rows))
    alone = client.embeddings.create(model="letters", input=sent[0])
    assert vectors(alone) == pytest.approx(expected[:1], abs=TOLERANCE)


@pytest.mark.parametrize("encoding", ["float", "base64"])
@pytest.mark.parametrize("dimensions", [1, 5, 16])
def test_fewer_dimensions_are_the_first_ones_at_length_one(
    client: openai.OpenAI, predictors: Mapping[str, Predictor], dimensions: int, encoding: Any
) -> None:
    answer = client.embeddings.create(
        model="letters", input=TEXTS, dimensions=dimensions, encoding_format=encoding, user="me"
    )
    found = [
        np.frombuffer(base64.b64decode(e.embedding), "<f4") if isinstance(e.embedding, str) else e.embedding
        for e in answer.data
    ]
    expected = unit(predictors["letters"].features(TEXTS).numpy()[:, :dimensions])
    assert np.array(found) == pytest.approx(expected, abs=TOLERANCE)


def test_a_list_of_any_length_up_to_the_limit_is_answered_in_its_order(
    client: openai.OpenAI, predictors: Mapping[str, Predictor]
) -> None:
    texts = ["abcdefghij klmnop qrstuv wxyz"[: 1 + (7 * n) % 29] + "abcdefgh"[n % 8] for n in range(2048)]
    answer = client.embeddings.create(model="letters", input=texts)
    distinct = sorted(set(texts))
    features = unit(predictors["letters"].features(distinct).numpy())
    expected = features[[distinct.index(text) for text in texts]]
    assert np.abs(vectors(answer) - expected).max() < TOLERANCE
    rows = {text: len(predictors["letters"].preprocessor.prepare(text).ids) for text in distinct}
    assert answer.usage.total_tokens == sum(rows[text] for text in texts)
    with pytest.raises(openai.APIStatusError) as refused:
        client.embeddings.create(model="letters", input=[*texts, "one more"])
    assert (refused.value.status_code, refused.value.code, refused.value.param) == (413, "too_many_instances", "input")


@pytest.mark.parametrize(
    ("request_", "status", "code", "param"),
    [
        ({"model": "lettres", "input": "a"}, 404, "model_not_found", "model"),
        ({"model": "letters:7", "input": "a"}, 404, "version_not_found", "model"),
        ({"model": "org/letters", "input": "a"}, 404, "model_not_found", "model"),
        ({"model": "", "input": "a"}, 404, "model_not_found", "model"),
        ({"model": None, "input": "a"}, 422, "invalid_document", "model"),
        ({"model": "letters", "input": ""}, 422, "empty_text", None),
        ({"model": "letters", "input": ["a", " "]}, 422, "empty_text", None),
        ({"model": "letters", "input": []}, 422, "invalid_instances", "input"),
        ({"model": "letters", "input": [[]]}, 422, "empty_text", None),
        ({"model": "letters", "input": [[1_000_000]]}, 422, "invalid_instances", None),
        ({"model": "letters", "input": [-1]}, 422, "invalid_instances", "input"),
        ({"model": "letters", "input": {"a": 1}}, 422, "invalid_instances", "input"),
        ({"model": "letters", "input": ["a", 1]}, 422, "invalid_instances", "input"),
        ({"model": "letters", "input": "a", "dimensions": 17}, 400, "invalid_parameter", "dimensions"),
        ({"model": "letters", "input": "a", "dimensions": 0}, 400, "invalid_parameter", "dimensions"),
        ({"model": "letters", "input": "a", "encoding_format": "hex"}, 400, "invalid_parameter", "encoding_format"),
        ({"model": "letters", "input": "a " * 100}, 422, "context_length_exceeded", None),
        ({"model": "colours", "input": "a"}, 422, "invalid_instances", "input"),
        ({"model": "colours", "input": [[1]]}, 422, "invalid_instances", "input"),
        ({"model": "colours", "input": "data:image/png;base64,????"}, 400, "invalid_base64", "input"),
        ({"model": "colours", "input": "data:image/png;base64,aGVsbG8="}, 422, "image_undecodable", None),
    ],
)
def test_errors_have_all_four_keys(
    client: openai.OpenAI, request_: Mapping[str, Any], status: int, code: str, param: str | None
) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        client.post("/embeddings", cast_to=dict[str, Any], body=dict(request_))
    error = refused.value
    assert (error.status_code, error.code, error.param, error.type) == (status, code, param, "invalid_request_error")
    document = error.response.json()
    assert list(document["error"]) == ["message", "type", "param", "code"]
    assert error.response.headers["content-type"] == "application/json"


def test_a_bad_row_is_named_by_its_place_in_the_list(client: openai.OpenAI) -> None:
    texts = [f"{'a' * (n % 20)} b" for n in range(300)]
    texts[217] = " "
    with pytest.raises(openai.UnprocessableEntityError, match="instance 217: the text is empty"):
        client.embeddings.create(model="letters", input=texts)


def test_long_texts_are_cut_where_that_is_asked_for(client: openai.OpenAI) -> None:
    long = "a b " * 100
    answer = client.embeddings.create(model="letters", input=long, extra_body={"truncate": True})
    limit = answer.usage.total_tokens
    assert vectors(answer).shape == (1, 16)
    assert 3 < limit < 200
    tokens = client.embeddings.create(model="letters", input=[5] * 500, extra_body={"truncate": True})
    assert tokens.usage.total_tokens == limit


def test_the_listing_is_one_for_openais_clients_and_kserves(client: openai.OpenAI, server: ServerProcess) -> None:
    document = server.request("GET", "/v1/models").json()
    assert document["models"] == ["colours", "letters", "moods"]
    ids = [card.id for card in client.models.list()]
    assert ids == [card["id"] for card in document["data"]]
    assert {"colours", "colours:1", "letters", "letters:1", "moods", "moods:1"} < set(ids)
    for id_ in ids:
        card = client.models.retrieve(id_)
        assert (card.id, card.object, card.owned_by) == (id_, "model", "graftwork")
        assert card.created > 1_700_000_000
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("lettres")
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    assert "letters" in refused.value.message
    problem = server.request("GET", "/v1/models/lettres")
    assert problem.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "code", "detail", "request_id", "error"} == set(problem.json())


async def ask_with_async_client(port: int, key: str = "none") -> openai.types.CreateEmbeddingResponse:
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=key) as client:
        return await client.embeddings.create(model="letters", input=TEXTS)


def test_the_async_client_is_answered_alike(server: ServerProcess, predictors: Mapping[str, Predictor]) -> None:
    answer = asyncio.run(ask_with_async_client(server.port))
    assert vectors(answer) == pytest.approx(unit(predictors["letters"].features(TEXTS).numpy()), abs=TOLERANCE)


def test_keys_are_its_api_keys(guarded: Guarded) -> None:
    answer = asyncio.run(ask_with_async_client(guarded.server.port, guarded.predict))
    assert len(answer.data) == len(TEXTS)
    for key, kind in [("none", openai.AuthenticationError), (guarded.metrics, openai.PermissionDeniedError)]:
        with pytest.raises(kind) as refused:
            asyncio.run(ask_with_async_client(guarded.server.port, key))
        assert set(refused.value.response.json()["error"]) == {"message", "type", "param", "code"}


def test_it_asks_again_when_it_was_told_to(texts_on_disk: ModelRepository, predictors: Mapping[str, Predictor]) -> None:
    """A server that still loads its models answers 503, and when to come back."""
    attempts: list[float] = []
    statuses: list[int] = []
    server = ServerProcess(repository=texts_on_disk.root)
    try:
        wait_for(lambda: server.status_of("/health/live") == 200, 60)
        with (
            httpx2.Client(
                event_hooks={
                    "request": [lambda _: attempts.append(time.monotonic())],
                    "response": [lambda response: statuses.append(response.status_code)],
                }
            ) as http,
            openai.OpenAI(
                base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=90, http_client=http
            ) as client,
        ):
            answer = client.embeddings.create(model="letters", input=TEXTS)
    finally:
        server.destroy()
    assert vectors(answer) == pytest.approx(unit(predictors["letters"].features(TEXTS).numpy()), abs=TOLERANCE)
    assert statuses == [503] * (len(statuses) - 1) + [200]
    assert len(statuses) > 1
    pauses = [later - earlier for earlier, later in pairwise(attempts)]
    assert min(pauses) >= 0.99  # Retry-After: 1; by itself it would wait half a second at first
