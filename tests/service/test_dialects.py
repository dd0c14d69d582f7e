"""The same inputs through every dialect: there is one path behind all of them, and one answer."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import pytest

from models.predictor import Predictor
from tests.service.answers import TOLERANCE
from tests.service.oip_asking import JSON_SIZE, in_bytes, in_json, infer, tensors
from tests.service.spoken import Spoken, words
from tests.tiny_models import picture

Probabilities: TypeAlias = Sequence[Mapping[str, float]]
Dialect: TypeAlias = Callable[[Spoken, Predictor, str, Sequence[bytes]], Probabilities]


def v1_json(spoken: Spoken, predictor: Predictor, model: str, items: Sequence[bytes]) -> Probabilities:
    return _v1(spoken.server.predict(model, [_in_json(model, item) for item in items]))


def v1_bodies(spoken: Spoken, predictor: Predictor, model: str, items: Sequence[bytes]) -> Probabilities:
    """Each item is a body."""
    media_type = {"content-type": "text/plain" if model == "letters" else "application/octet-stream"}
    path = f"/v1/models/{model}:predict"
    return [_v1(spoken.server.request("POST", path, item, media_type))[0] for item in items]


def v2_json(spoken: Spoken, predictor: Predictor, model: str, items: Sequence[bytes]) -> Probabilities:
    texts = [item.decode() if model == "letters" else b64encode(item).decode() for item in items]
    return _v2(predictor, infer(spoken.server, model, in_json({_input(model): texts})))


def v2_bytes(spoken: Spoken, predictor: Predictor, model: str, items: Sequence[bytes]) -> Probabilities:
    body, headers = in_bytes({_input(model): items}, parameters={"binary_data_output": True})
    return _v2(predictor, infer(spoken.server, model, body, headers))


def v2_raw(spoken: Spoken, predictor: Predictor, model: str, items: Sequence[bytes]) -> Probabilities:
    return [_v2(predictor, infer(spoken.server, model, item, {JSON_SIZE: "0"}))[0] for item in items]


def grpc(spoken: Spoken, predictor: Predictor, model: str, items: Sequence[bytes]) -> Probabilities:
    rows = spoken.infer(model, {_input(model): words(*items)}).as_numpy("probabilities").tolist()
    return [dict(zip(predictor.labels, row, strict=True)) for row in rows]


def _input(model: str) -> str:
    return "text" if model == "letters" else "image"


def _in_json(model: str, item: bytes) -> Any:
    return item.decode() if model == "letters" else {"b64": b64encode(item).decode()}


def _v1(reply: Any) -> Probabilities:
    assert reply.status == 200, reply.body
    return [prediction["scores"] for prediction in reply.json()["predictions"]]


def _v2(predictor: Predictor, reply: Any) -> Probabilities:
    found = tensors(reply)
    rows = [dict(zip(predictor.labels, row, strict=True)) for row in found["probabilities"]]
    assert found["label"] == [max(row, key=row.__getitem__) for row in rows]
    return rows


DIALECTS: Sequence[Dialect] = (v1_json, v1_bodies, v2_json, v2_bytes, v2_raw, grpc)
TEXTS = ["it is a", "7", "\u00e9\u4e2d\U0001f600 and more of it", " spaces ", "a" * 300 + " b"]
ITEMS = {
    "letters": [text.encode() for text in TEXTS[:-1]],
    "colours": [picture(1), picture(2, file_format="JPEG"), picture(3, file_format="WEBP", size=(200, 150))],
}


@pytest.mark.parametrize("model", ITEMS)
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.__name__)
def test_every_dialect_gives_the_numbers_of_the_model(
    spoken: Spoken, predictors: Mapping[str, Predictor], dialect: Dialect, model: str
) -> None:
    predictor, items = predictors[model], ITEMS[model]
    raw = [item.decode() for item in items] if model == "letters" else items
    for found, wanted in zip(dialect(spoken, predictor, model, items), predictor.predict(raw).tolist(), strict=True):
        assert [found[label] for label in predictor.labels] == pytest.approx(wanted, abs=TOLERANCE)
