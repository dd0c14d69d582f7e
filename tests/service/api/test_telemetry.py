from __future__ import annotations

import asyncio
import json
import logging
import re
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from models.errors import (
    DeviceFailed,
    EmptyText,
    EngineUnavailable,
    GraftworkError,
    HeadersTooLarge,
    NotReady,
    OutOfMemory,
    Overloaded,
    RequestTimeout,
    WorkerLost,
)
from service.api.metrics import Metrics
from service.api.telemetry import RECORD, RequestRecord, Telemetry
from service.http.scope import CONNECTION, REFUSAL
from service.log import JsonLines
from tests.server_process import samples

OURS = re.compile(r"[0-9a-f]{32}")


def call(app: Any, headers: list[tuple[bytes, bytes]] | None = None, path: str = "/x") -> tuple[list[Any], Metrics]:
    """What one request to a small ASGI application sends, and the metrics afterwards."""
    metrics = Metrics("0")
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "headers": headers or []}
    asyncio.run(Telemetry(app, metrics, _never)(scope, receive, send))
    return sent, metrics


async def fine(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
    await send({"type": "http.response.body", "body": b"{}"})


@pytest.mark.parametrize(
    ("closing", "waiting", "closes"),
    [(False, None, False), (False, False, False), (True, None, True), (True, False, True), (True, True, False)],
)
def test_a_server_that_is_about_to_stop_ends_each_connection_with_its_last_answer(
    closing: bool, waiting: bool | None, closes: bool
) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    telemetry = Telemetry(fine, Metrics("0"), _never)
    telemetry.closing = closing
    connection = None if waiting is None else SimpleNamespace(has_waiting=waiting)
    scope = {"type": "http", "method": "GET", "path": "/x", "headers": [], CONNECTION: connection}
    asyncio.run(telemetry(scope, None, send))  # type: ignore[arg-type]
    assert ((b"connection", b"close") in sent[0]["headers"]) is closes


def response_id(headers: list[tuple[bytes, bytes]]) -> str:
    sent, _ = call(fine, headers)
    ids = [value.decode() for name, value in sent[0]["headers"] if name == b"x-request-id"]
    assert len(ids) == 1
    return str(ids[0])


@pytest.mark.parametrize("given_id", ["a", "A-b_c.9", "x" * 64])
def test_a_harmless_request_id_is_kept(given_id: str) -> None:
    assert response_id([(b"x-request-id", given_id.encode())]) == given_id


@pytest.mark.parametrize(
    "given_id",
    [
        b"",
        b"x" * 65,
        b"x" * 1_000_000,
        b"a\r\nset-cookie: b",
        b"\x1b[31mred",
        b'a","level":"error',
        b"http://evil",
        b"a b",
        b"\xff",
        b"a\n",
    ],
)
def test_h16_any_other_is_replaced_by_ours(given_id: bytes) -> None:
    assert OURS.fullmatch(response_id([(b"x-request-id", given_id)]))


def test_without_one_each_request_gets_its_own() -> None:
    assert len({response_id([]) for _ in range(10)}) == 10


def test_the_first_harmless_one_counts() -> None:
    assert (
        response_id([(b"x-request-id", b"not harmless"), (b"x-request-id", b"one"), (b"x-request-id", b"two")]) == "one"
    )


def test_an_unforeseen_error_is_one_fixed_answer(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        scope[RECORD].counted = True
        raise ValueError("/secret")

    sent, metrics = call(broken, [(b"x-request-id", b"mine")])
    assert sent[0]["status"] == 500
    assert b"secret" not in sent[1]["body"]
    assert json.loads(sent[1]["body"])["request_id"] == "mine"
    assert any("/secret" in (record.exc_text or "") or record.exc_info for record in caplog.records)
    assert requests(metrics, "failed") == 1


def test_an_error_after_the_answer_has_begun_sends_no_second_one() -> None:
    async def broken_late(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError

    sent, _ = call(broken_late)
    assert [message["type"] for message in sent] == ["http.response.start"]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "ok"),
        (400, "client_error"),
        (404, "client_error"),
        (422, "client_error"),
        (501, "client_error"),
        (499, "disconnected"),
        (503, "shed"),
        (504, "timeout"),
        (500, "failed"),
        (507, "failed"),
    ],
)
def test_every_prediction_request_has_one_outcome(status: int, outcome: str) -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        record: RequestRecord = scope[RECORD]
        record.counted, record.model, record.version = True, "m", "1"
        if status == 422:
            record.error = EmptyText("empty")
        await send({"type": "http.response.start", "status": status, "headers": []})

    _, metrics = call(answer)
    assert requests(metrics, outcome, "m", "1") == 1
    errors = metrics.registry.get_sample_value(
        "graftwork_errors_total", {"model": "m", "version": "1", "reason": "empty_text"}
    )
    assert errors == (1 if status == 422 else None)


def test_an_outcome_is_that_of_the_error_whatever_status_its_dialect_has() -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        record: RequestRecord = scope[RECORD]
        record.counted, record.error = True, Overloaded("full")
        await send({"type": "http.response.start", "status": 429, "headers": []})

    _, metrics = call(answer)
    assert requests(metrics, "shed") == 1


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Overloaded("full"), "shed"),
        (NotReady("not yet"), "shed"),
        (WorkerLost("gone"), "failed"),
        (OutOfMemory("too large"), "failed"),
        (DeviceFailed("broken"), "failed"),
        (EngineUnavailable("down"), "failed"),
    ],
)
def test_what_is_shed_was_never_begun(error: GraftworkError, outcome: str) -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        record: RequestRecord = scope[RECORD]
        record.counted, record.error = True, error
        await send({"type": "http.response.start", "status": error.status, "headers": []})

    _, metrics = call(answer)
    assert requests(metrics, outcome) == 1


def test_other_requests_are_not_counted() -> None:
    _, metrics = call(fine)
    assert b"graftwork_requests_total{" not in metrics.exposition()


def requests(metrics: Metrics, outcome: str, model: str = "_unknown", version: str = "_unknown") -> float | None:
    return samples(metrics.exposition(), "graftwork_requests_total").get((model, outcome, version))


def test_a_cancelled_request_is_counted_too() -> None:
    async def cancelled(scope: Any, receive: Any, send: Any) -> None:
        scope[RECORD].counted = True
        raise asyncio.CancelledError

    metrics = Metrics("0")
    cut_off: list[int] = []

    async def run() -> None:
        await Telemetry(cancelled, metrics, lambda: cut_off.append(1))(
            {"type": "http", "method": "GET", "path": "/", "headers": []}, None, None
        )  # type: ignore[arg-type]

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())
    assert requests(metrics, "failed") == 1
    assert cut_off == [1]


def test_a_client_that_hangs_up_is_neither_ours_nor_an_error_of_its_own() -> None:
    async def disconnected(scope: Any, receive: Any, send: Any) -> None:
        scope[RECORD].counted = True
        raise ClientDisconnect

    metrics = Metrics("0")
    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    asyncio.run(Telemetry(disconnected, metrics, _never)(scope, None, None))  # type: ignore[arg-type]
    assert requests(metrics, "disconnected") == 1
    assert requests(metrics, "failed") == 0


def test_a_request_that_was_refused_while_it_was_read_reaches_no_handler() -> None:
    scope = {"type": "http", "method": "-", "path": "", "headers": [], REFUSAL: HeadersTooLarge("too large")}
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    metrics = Metrics("0")
    asyncio.run(Telemetry(_unreachable, metrics, _never)(scope, None, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 431
    assert json.loads(sent[1]["body"])["code"] == "headers_too_large"
    assert b"graftwork_requests_total{" not in metrics.exposition()


@pytest.mark.parametrize("answered", [False, True])
def test_a_request_that_breaks_off_is_an_error_of_its_client(answered: bool) -> None:
    """It gets the one answer that it has not had yet."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def reading(scope: Any, receive: Any, send: Any) -> None:
        scope[RECORD].counted = True
        if answered:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        scope[REFUSAL] = RequestTimeout("too slow")
        raise ClientDisconnect

    metrics = Metrics("0")
    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    asyncio.run(Telemetry(reading, metrics, _never)(scope, None, send))  # type: ignore[arg-type]
    assert [message["status"] for message in sent if message["type"] == "http.response.start"] == [
        200 if answered else 408
    ]
    assert requests(metrics, "disconnected" if answered else "client_error") == 1
    assert requests(metrics, "client_error" if answered else "disconnected") == 0


async def _unreachable(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("the request reached a handler")


def _never() -> None:
    raise AssertionError("no request was cut off")


def access_line(path: str, headers: list[tuple[bytes, bytes]], caplog: pytest.LogCaptureFixture) -> str:
    with caplog.at_level(logging.INFO, logger="graftwork.access"):
        caplog.clear()
        call(fine, headers, path)
    (record,) = [record for record in caplog.records if record.name == "graftwork.access"]
    return JsonLines().format(record)


def test_one_line_says_what_happened(caplog: pytest.LogCaptureFixture) -> None:
    entry = json.loads(access_line("/v1/models", [(b"x-request-id", b"mine")], caplog))
    assert (entry["level"], entry["logger"], entry["status"]) == ("info", "graftwork.access", 200)
    assert (entry["request_id"], entry["method"], entry["path"]) == ("mine", "GET", "/v1/models")
    assert entry["ms"] >= 0


def test_a_long_path_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    assert len(access_line("/" * 100_000, [], caplog)) < 1000
