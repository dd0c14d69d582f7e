"""The hub's own clients against a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from numpy.typing import NDArray

from models.predictor import Predictor
from models.repository import ModelRepository
from service.worker.registry import Registry
from tests.server_process import ServerProcess, ready_server
from tests.service.guarded import Guarded, bearer
from tests.tiny_models import LETTERS, TorchEngines

TEXTS = ["where is my card?", "a", "b c d e f g", "it is lost, and so am I"]
TOLERANCE = 1e-5


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, the clients refuse this machine's own addresses as well."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


@pytest.fixture(scope="module")
def of_letters(models_on_disk: Path) -> Iterator[ServerProcess]:
    with ready_server(models_on_disk, "--tei-model", "letters") as server:
        yield server


@pytest.fixture(scope="module")
def of_pairs(tasks_on_disk: Path) -> Iterator[ServerProcess]:
    with ready_server(tasks_on_disk, "--tei-model", "likeness:1") as server:
        yield server


def url(server: ServerProcess) -> str:
    return f"http://127.0.0.1:{server.port}"


def unit(vectors_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return scaled


@pytest.fixture
def expected(predictors: Mapping[str, Predictor]) -> NDArray[np.float32]:
    """The embeddings of the texts."""
    return unit(predictors["letters"].features(TEXTS).numpy())


def post(server: ServerProcess, path: str, document: object) -> Any:
    reply = server.request("POST", path, json.dumps(document).encode(), {"content-type": "application/json"})
    assert reply.status == 200, reply.body
    return reply.json()


@pytest.mark.parametrize(
    "client",
    [
        lambda base: InferenceClient(model=base),
        lambda base: InferenceClient(base_url=base),
        lambda base: InferenceClient(model=f"{base}/embed"),
        lambda base: InferenceClient(model=base, provider="hf-inference"),
        lambda base: InferenceClient(),
    ],
)
def test_texts_have_the_features_of_the_backbone(server: ServerProcess, expected: Any, client: Any) -> None:
    made, model = client(url(server)), None
    if made.model is None:
        model = url(server)
    found = made.feature_extraction(TEXTS, model=model)
    assert found.dtype == np.float32
    assert found == pytest.approx(expected, abs=TOLERANCE)
    assert made.feature_extraction(TEXTS[0], model=model) == pytest.approx(expected[:1], abs=TOLERANCE)


def test_embeddings_are_scaled_and_cut_as_they_are_asked_for(
    server: ServerProcess, predictors: Mapping[str, Predictor]
) -> None:
    features = predictors["letters"].features(TEXTS).numpy()
    client = InferenceClient(model=url(server))
    raw = client.feature_extraction(TEXTS, normalize=False)
    assert raw == pytest.approx(features, abs=TOLERANCE)
    cut = client.feature_extraction(TEXTS, dimensions=5, truncate=True, truncation_direction="right")
    assert cut == pytest.approx(unit(features[:, :5]), abs=TOLERANCE)


def test_the_asynchronous_client_gets_the_same(server: ServerProcess, expected: Any) -> None:
    async def ask() -> tuple[Any, Any]:
        async with AsyncInferenceClient(model=url(server)) as client:
            return await asyncio.gather(
                client.feature_extraction(TEXTS),  # type: ignore[arg-type]
                client.sentence_similarity(TEXTS[0], other_sentences=TEXTS[1:]),
            )

    vectors, similarities = asyncio.run(ask())
    assert vectors == pytest.approx(expected, abs=TOLERANCE)
    assert similarities == pytest.approx((expected[0] @ expected[1:].T).tolist(), abs=TOLERANCE)


@pytest.mark.parametrize("path", ["", "/similarity"])
def test_similarities_are_cosines(server: ServerProcess, of_letters: ServerProcess, expected: Any, path: str) -> None:
    for each in (server, of_letters):
        found = InferenceClient(model=url(each) + path).sentence_similarity(TEXTS[0], other_sentences=TEXTS)
        assert found == pytest.approx((expected[0] @ expected.T).tolist(), abs=TOLERANCE)


def test_a_thousand_texts_are_ranked(server: ServerProcess, predictors: Mapping[str, Predictor]) -> None:
    texts = ["abcdefghij klmnop qrstuv wxyz"[: 1 + (7 * n) % 29] + "abcdefgh"[n % 8] for n in range(1000)]
    distinct = sorted(set(texts))
    vectors = dict(zip(distinct, unit(predictors["letters"].features(distinct).numpy()), strict=True))
    found = post(server, "/rerank", {"query": texts[0], "texts": texts, "return_text": True})
    assert sorted(each["index"] for each in found) == list(range(1000))
    scores = [each["score"] for each in found]
    assert scores == sorted(scores, reverse=True)
    for each in found:
        assert each["text"] == texts[each["index"]]
        assert each["score"] == pytest.approx(float(vectors[texts[0]] @ vectors[each["text"]]), abs=TOLERANCE)


def test_long_lists_and_tokens_are_answered_in_their_order(
    server: ServerProcess, predictors: Mapping[str, Predictor]
) -> None:
    texts = [TEXTS[(n * 7) % 4] for n in range(300)]
    expected = unit(predictors["letters"].features(TEXTS).numpy())[[(n * 7) % 4 for n in range(300)]]
    assert InferenceClient(model=url(server)).feature_extraction(texts) == pytest.approx(expected, abs=TOLERANCE)
    tokens = [list(predictors["letters"].preprocessor.prepare(text).ids) for text in texts]
    assert np.array(post(server, "/embed", {"inputs": tokens})) == pytest.approx(expected, abs=TOLERANCE)
    assert np.array(post(server, "/embed", {"inputs": tokens[0]})) == pytest.approx(expected[:1], abs=TOLERANCE)


@pytest.mark.parametrize("path", ["", "/predict"])
def test_a_classifier_gives_every_label_its_score(of_letters: ServerProcess, path: str) -> None:
    client = InferenceClient(model=url(of_letters) + path)
    for text in TEXTS:
        wanted = of_letters.predict("letters", [text]).json()["predictions"][0]["scores"]
        found = client.text_classification(text)
        assert [each.label for each in found] == list(wanted)
        assert [each.score for each in found] == pytest.approx(list(wanted.values()), abs=TOLERANCE)
        best = client.text_classification(text, top_k=1, function_to_apply="softmax")
        assert [each.label for each in best] == [found[0].label]


def test_a_classifier_answers_as_tei_does(of_letters: ServerProcess, predictors: Mapping[str, Predictor]) -> None:
    wanted = predictors["letters"].predict(TEXTS).tolist()
    found = post(of_letters, "/predict", {"inputs": [[text] for text in TEXTS]})
    logits = post(of_letters, "/predict", {"inputs": [[text] for text in TEXTS], "raw_scores": True})
    for scores, ranked, raw in zip(wanted, found, logits, strict=True):
        by_label = {each["label"]: each["score"] for each in ranked}
        assert [by_label[label] for label in LETTERS] == pytest.approx(scores, abs=TOLERANCE)
        assert [each["label"] for each in ranked] == [each["label"] for each in raw]
        exponents = np.exp([each["score"] for each in raw])
        assert exponents / exponents.sum() == pytest.approx([each["score"] for each in ranked], abs=TOLERANCE)
    for path in ("/predict", "/"):
        alone = post(of_letters, path, {"inputs": TEXTS[0]})
        assert [each["label"] for each in alone] == [each["label"] for each in found[0]]
        assert [each["score"] for each in alone] == pytest.approx([each["score"] for each in found[0]], abs=TOLERANCE)
    info = of_letters.request("GET", "/info").json()
    assert info["model_type"]["classifier"]["id2label"] == {str(n): label for n, label in enumerate(LETTERS)}


def test_a_classifiers_embeddings_are_those_of_its_backbone(of_letters: ServerProcess, expected: Any) -> None:
    found = InferenceClient(model=f"{url(of_letters)}/embed").feature_extraction(TEXTS)
    assert found == pytest.approx(expected, abs=TOLERANCE)


def test_a_model_of_pairs_ranks_and_compares_by_its_value(of_pairs: ServerProcess, tasks_on_disk: Path) -> None:
    likeness = Registry(ModelRepository(tasks_on_disk), TorchEngines()).load("likeness", 1).predictor
    wanted = [row[0] for row in likeness.predict([(TEXTS[0], text) for text in TEXTS]).tolist()]
    found = post(of_pairs, "/rerank", {"query": TEXTS[0], "texts": TEXTS})
    assert {each["index"]: each["score"] for each in found} == pytest.approx(dict(enumerate(wanted)), abs=1e-4)
    similarities = InferenceClient(model=url(of_pairs)).sentence_similarity(TEXTS[0], other_sentences=TEXTS)
    assert similarities == pytest.approx(wanted, abs=1e-4)
    batch = post(of_pairs, "/predict", {"inputs": [[TEXTS[0], text] for text in TEXTS]})
    assert [[each["label"] for each in row] for row in batch] == [["likeness"]] * 4
    assert [row[0]["score"] for row in batch] == pytest.approx(wanted, abs=1e-4)
    (alone,) = post(of_pairs, "/predict", {"inputs": [TEXTS[0], TEXTS[1]]})
    assert alone["score"] == pytest.approx(wanted[1], abs=1e-4)
    assert "reranker" in of_pairs.request("GET", "/info").json()["model_type"]


def test_the_client_reads_what_the_server_is(server: ServerProcess) -> None:
    client = InferenceClient(model=url(server), provider="hf-inference")
    assert client.health_check()
    info = client.get_endpoint_info()
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert (info["model_dtype"], info["max_input_length"]) == ("float32", 64)


def test_the_client_raises_what_the_server_says(server: ServerProcess) -> None:
    client = InferenceClient(model=url(server))
    for ask, status, cure in [
        (lambda: client.feature_extraction("a", prompt_name="query"), 422, "prompt_name"),
        (lambda: client.feature_extraction("a", truncation_direction="left"), 422, "at their end only"),
        (lambda: client.feature_extraction("abcd " * 300), 413, "64"),
        (lambda: client.feature_extraction([]), 400, "empty"),
        (lambda: InferenceClient(model=f"{url(server)}/predict").text_classification("a"), 424, "--tei-model"),
    ]:
        with pytest.raises(HfHubHTTPError) as refused:
            ask()
        assert refused.value.response.status_code == status
        document = refused.value.response.json()
        assert cure in document["error"]
        assert document["error_type"] in ("Validation", "Empty", "Backend")


def test_a_key_is_the_clients_token(guarded: Guarded) -> None:
    base = url(guarded.server)
    assert InferenceClient(model=base, token=guarded.predict).feature_extraction("a").shape == (1, 16)
    for token, status in [(guarded.revoked, 401), (guarded.metrics, 403)]:
        with pytest.raises(HfHubHTTPError) as refused:
            InferenceClient(model=base, token=token).feature_extraction("a")
        assert refused.value.response.status_code == status
        assert refused.value.response.json()["error_type"] == "Validation"
    assert guarded.server.request("GET", "/info", headers=bearer(guarded.predict)).status == 403
    assert guarded.server.request("GET", "/health").status == 200
