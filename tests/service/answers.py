"""The answers of the real server, held against the same models in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from models.predictor import Predictor
from tests.server_process import Reply, ServerProcess

TOLERANCE = 1e-5


def scores(reply: Reply, labels: Sequence[str]) -> list[list[float]]:
    assert reply.status == 200, reply.body
    return [[prediction["scores"][label] for label in labels] for prediction in reply.json()["predictions"]]


def check(reply: Reply, predictor: Predictor, items: Sequence[Any]) -> None:
    """An answer is that of the same model in this process."""
    wanted = predictor.predict(items).tolist()
    for found, expected in zip(scores(reply, predictor.labels), wanted, strict=True):
        assert found == pytest.approx(expected, abs=TOLERANCE)


def check_refusal(reply: Reply, status: int, code: str) -> None:
    assert (reply.status, reply.json().get("code")) == (status, code), reply.body
    assert reply.headers["content-type"] == "application/problem+json"
    assert set(reply.json()) == {"type", "title", "status", "code", "detail", "request_id"}
    assert reply.json()["request_id"] == reply.headers["x-request-id"]
    for secret in (b"/tmp", b"Traceback", b"Error(", b".py", b"object at"):
        assert secret not in reply.body


def send_image(server: ServerProcess, data: bytes, media_type: str | None = "image/jpeg") -> Reply:
    headers = {} if media_type is None else {"content-type": media_type}
    return server.request("POST", "/v1/models/colours:predict", data, headers)
