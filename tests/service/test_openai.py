"""OpenAI's own client against a real server."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import openai
import pytest
from numpy.typing import NDArray

from models.predictor import Predictor
from tests.server_process import ServerProcess

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
