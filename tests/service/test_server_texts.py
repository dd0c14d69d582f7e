"""FAULTS 2 and 3: texts and JSON that are asked of the real server."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest

from models.predictor import Predictor
from tests.server_process import ServerProcess
from tests.service.answers import check, check_refusal

pytestmark = pytest.mark.usefixtures("nothing_dies")


# FAULTS 2: texts


@pytest.mark.parametrize("text", ["", " ", "\t\n\u00a0\u3000"])
def test_t01_no_text(server: ServerProcess, text: str) -> None:
    check_refusal(server.predict("letters", [text]), 422, "empty_text")
    plain = server.request("POST", "/v1/models/letters:predict", text.encode(), {"content-type": "text/plain"})
    check_refusal(plain, 422, "empty_text")


def test_t02_a_text_that_is_too_long(server: ServerProcess) -> None:
    check_refusal(server.predict("letters", ["a" * (10 << 20)]), 413, "body_too_large")
    check_refusal(server.predict("letters", ["a" * ((1 << 20) + 1)]), 413, "text_too_long")


def test_t03_more_tokens_than_the_model_reads(server: ServerProcess, predictors: Mapping[str, Predictor]) -> None:
    text = "a b c " * 200
    check_refusal(server.predict("letters", [text]), 422, "context_length_exceeded")
    cut = server.predict("letters", [text], "?truncate=true")
    check(cut, predictors["letters"], [text])
    assert cut.json()["predictions"][0]["truncated"] is True


def test_t04_t05_bytes_and_escapes_that_are_no_text(server: ServerProcess) -> None:
    for model in ("letters", "colours"):
        for body, code in [
            (b'{"instances": ["\xff"]}', "invalid_utf8"),
            (b'{"instances": ["\\ud800"]}', "invalid_unicode"),
        ]:
            check_refusal(
                server.request("POST", f"/v1/models/{model}:predict", body, {"content-type": "application/json"}),
                400,
                code,
            )
    plain = server.request("POST", "/v1/models/letters:predict", b"caf\xe9", {"content-type": "text/plain"})
    check_refusal(plain, 400, "invalid_utf8")


@pytest.mark.parametrize(
    "text",
    [
        "a\x00\x01\x1b[31m\x7f\u0085",
        "\ufeffa",
        "a\ufffe",
        "\u202eabc",
        "a \U0001f468\u200d\U0001f469\u200d\U0001f467",
        "e\u0301 \u00e9",
        "[CLS] [SEP] </s> <|endoftext|> <image> [MASK]",
    ],
)
def test_t06_t07_t08_odd_texts_are_texts(server: ServerProcess, predictors: Mapping[str, Predictor], text: str) -> None:
    check(server.predict("letters", [text]), predictors["letters"], [text])


def test_t07_ten_thousand_combining_marks(server: ServerProcess) -> None:
    started = time.perf_counter()
    assert server.predict("letters", ["a" + "\u0301" * 10_000], "?truncate=true").status in (200, 422)
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    ("texts", "status", "code"),
    [
        (["a"] * 64, 200, None),
        (["a"] * 65, 413, "too_many_instances"),
        ([], 422, "invalid_instances"),
        (["a", "", "b"], 422, "empty_text"),
    ],
)
def test_t10_lists(server: ServerProcess, texts: list[str], status: int, code: str | None) -> None:
    reply = server.predict("letters", texts)
    if code is None:
        assert (reply.status, len(reply.json()["predictions"])) == (200, len(texts))
    else:
        check_refusal(reply, status, code)
    if code == "empty_text":
        assert reply.json()["detail"].startswith("instance 1: ")


# FAULTS 3: JSON


@pytest.mark.parametrize("model", ["letters", "colours"])
@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"instances": ["a",]}', b'{"instances": ["a"]} //', b'{"instances": ["a"]}{}']
)
def test_j01_no_json(server: ServerProcess, model: str, body: bytes) -> None:
    reply = server.request("POST", f"/v1/models/{model}:predict", body, {"content-type": "application/json"})
    check_refusal(reply, 400, "invalid_json")


@pytest.mark.parametrize("depth", [101, 100_000, 250_000])
def test_j02_too_deep(server: ServerProcess, depth: int) -> None:
    durations = []
    for _ in range(3):
        started = time.perf_counter()
        reply = server.request("POST", "/v1/models/letters:predict", b"[" * depth + b"]" * depth)
        durations.append(time.perf_counter() - started)
        check_refusal(reply, 400, "json_too_deep")
    assert min(durations) < 0.05


@pytest.mark.parametrize("number", [b"NaN", b"-Infinity", b"1e999"])
def test_j03_not_finite(server: ServerProcess, number: bytes) -> None:
    reply = server.request("POST", "/v1/models/letters:predict", b'{"instances": [%s]}' % number)
    check_refusal(reply, 400, "non_finite")
