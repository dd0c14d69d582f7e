from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from models.errors import GraftworkError, InvalidParameter
from models.predictor import Predictor
from service.client import Client
from service.client.items import EMBEDDED_ITEMS
from tests.server_process import ServerProcess
from tests.service.client.service import Service
from tests.tiny_models import picture


def vector(text: str) -> list[float]:
    """What a text becomes: its length and its first letter."""
    return [float(len(text)), float(ord(text[0])), 0.25]


def answer(request: httpx2.Request, model: str) -> httpx2.Response:
    asked = json.loads(request.content)
    assert asked["encoding_format"] == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(np.array(vector(text)[: asked.get("dimensions")], "<f4").tobytes()).decode(),
        }
        for index, text in enumerate(asked["input"])
    ]
    data.reverse()  # their places are said by their index alone
    usage = {"prompt_tokens": len(data), "total_tokens": len(data)}
    return httpx2.Response(200, json={"object": "list", "data": data, "model": model, "usage": usage})


class Embedder(Service):
    """Answers with a vector for each text.

    Args:
        model: that answers, as it says.
    """

    def __init__(self, model: str = "mini:2") -> None:
        super().__init__()
        self._model = model

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.seen.append(request)
        return answer(request, self._model)


@pytest.mark.parametrize("way", ["ask_once", "ask_async"])
def test_vectors_come_in_the_order_of_their_items_whatever_their_number(way: str) -> None:
    texts = [chr(ord("a") + number % 26) * (number + 1) for number in range(2 * EMBEDDED_ITEMS + 1)]
    service = Embedder()
    found = getattr(service, way)("http://a", "embed", "mini", texts)
    assert found.vectors.dtype == np.float32
    assert found.vectors.tolist() == [vector(text) for text in texts]
    assert (found.model, found.tokens) == ("mini:2", len(texts))
    asked = [json.loads(request.content) for request in service.seen]
    assert [each["model"] for each in asked] == ["mini", "mini:2", "mini:2"]
    assert {request.url.path for request in service.seen} == {"/v1/embeddings"}


@pytest.mark.parametrize("answered", ["mini", "owner/mini", "mini@champion", "mini:0"])
def test_only_a_version_that_answered_is_asked_for_the_rest(answered: str) -> None:
    service = Embedder(answered)
    with service.client() as client:
        found = client.embed("owner/mini", ["a"] * (EMBEDDED_ITEMS + 1))
    assert found.model == answered
    assert [json.loads(request.content)["model"] for request in service.seen] == ["owner/mini"] * 2


def test_a_vector_can_be_cut() -> None:
    with Embedder().client() as client:
        assert client.embed("mini", ["ab", "c"], dimensions=1).vectors.tolist() == [[2.0], [1.0]]


@pytest.mark.parametrize(
    ("data", "kind"),
    [(b"\x89PNG...", "png"), (b"\xff\xd8\xff", "jpeg"), (b"RIFF\0\0\0\0WEBP", "webp"), (b"GIF89a", "gif")],
)
def test_images_go_as_data_urls(data: bytes, kind: str, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(data)
    service = Embedder()
    with service.client() as client:
        client.embed("m", [data, tmp_path / "image"])
    url = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    assert json.loads(service.seen[0].content)["input"] == [url, url]


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        {"data": [], "model": "m", "usage": {"total_tokens": 1}},
        {"data": [{"index": 0, "embedding": "AAAA"}], "model": "m", "usage": {"total_tokens": 1}},
        {"data": [{"index": 0, "embedding": "?"}], "model": "m", "usage": {"total_tokens": 1}},
    ],
)
def test_an_answer_of_something_else_is_said_so(document: Any) -> None:
    service = Service(httpx2.Response(200, json=document))
    with service.client() as client, pytest.raises(GraftworkError, match="not as a Graftwork server does"):
        client.embed("m", ["a"])


def test_there_has_to_be_a_list_of_items() -> None:
    with Service().client() as client:
        for items in ([], "text", b"bytes", Path("x")):
            with pytest.raises(InvalidParameter):
                client.embed("m", items)  # type: ignore[arg-type]


def test_a_real_server_gives_the_features_of_its_backbones(
    server: ServerProcess, predictors: Mapping[str, Predictor]
) -> None:
    texts = [f"{'abc' * (number % 5)} {number}" for number in range(300)]
    with Client(f"http://127.0.0.1:{server.port}") as client:
        found = client.embed("letters", texts)
        images = client.embed("colours:1", [picture(1), picture(2, file_format="JPEG")], dimensions=7)
    expected = predictors["letters"].features(texts).numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert (found.model, found.vectors.shape) == ("letters:1", (300, 16))
    assert np.abs(found.vectors - expected).max() < 1e-5
    assert (images.vectors.shape, images.tokens) == ((2, 7), 0)
