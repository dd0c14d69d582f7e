from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import ClassVar

import orjson
import pytest

from tests.faults.byte_fuzz import byte_fuzz, odd_request
from tests.faults.connection_fuzz import connection_fuzz, odd_talk
from tests.faults.figure import check
from tests.faults.fuzz import any_request
from tests.faults.fuzz_result import GRACE_SECONDS, JSON, PROBLEM, FuzzResult
from tests.faults.schema_fuzz import schema_fuzz

CASES = int(os.environ.get("GRAFTWORK_FAULT_CASES", "1000"))
SEED = int(os.environ.get("GRAFTWORK_FAULT_SEED", "0"))


def test_g8_any_request() -> None:
    figures = any_request(cases=CASES, seed=SEED)
    check(figures)
    statuses = {figure.name for figure in figures}
    for status in (200, 400, 404, 405, 413, 415, 422, 501):  # it came past every check there is
        assert f"answers with {status}" in statuses


# The fuzz itself finds what is wrong


class WrongServer(BaseHTTPRequestHandler):
    """Breaks one promise after the other."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer in one piece
    problem: ClassVar[dict[str, object]] = {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "code": "model_not_found",
        "detail": "there is no such model",
        "request_id": "1",
    }
    answers: ClassVar[list[tuple[int, str, dict[str, object]]]] = [
        (500, "1", {**problem, "status": 500, "code": "internal"}),
        (404, "", problem),
        (404, "2", problem),
        (404, "1", {**problem, "status": 400}),
        (404, "1", {**problem, "code": "no_such_code"}),
        (404, "1", {**problem, "detail": "FileNotFoundError"}),
        (404, "1", {**problem, "detail": "there is no /home/me/models"}),
        (404, "1", {**problem, "detail": 1}),
        (404, "1", {"error": "not found"}),
        (503, "1", {**problem, "status": 503, "code": "not_ready"}),
        (405, "1", {**problem, "status": 405, "code": "method_not_allowed"}),
        (418, "1", {**problem, "status": 418, "code": "teapot"}),
        (200, "1", {"predictions": []}),
    ]
    tensor: ClassVar[dict[str, object]] = {"name": "label", "datatype": "FP32", "shape": [2]}
    inference: ClassVar[dict[str, object]] = {"model_name": "letters", "model_version": "1"}
    inferences: ClassVar[list[tuple[int, dict[str, str], object]]] = [
        (404, {"Content-Type": PROBLEM}, problem),
        (404, {}, {"error": ["model_not_found: there is none"]}),
        (404, {}, {"error": "not found"}),
        (400, {}, {"error": "model_not_found: there is none"}),
        (404, {}, {"error": "model_not_found: FileNotFoundError"}),
        (501, {}, {"error": "internal: this is not_supported"}),
        (503, {}, {"error": "overloaded: the server is full"}),
        (200, {}, {"outputs": []}),
        (200, {}, {**inference, "outputs": [{**tensor, "data": [1.0]}]}),
        (200, {}, {**inference, "outputs": [tensor]}),
        (200, {}, {**inference, "outputs": [{**tensor, "parameters": {"binary_data_size": 8}}]}),
        (200, {}, {**inference, "outputs": [{**tensor, "parameters": {"binary_data_size": 7}}]}),
        (200, {"Inference-Header-Content-Length": "1"}, {}),
        (200, {"Content-Encoding": "gzip"}, {}),
    ]
    asked = 0
    pause = 0.0
    missing_bytes = 0  # of an answer that ends before

    def handle_any(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        cls = type(self)
        time.sleep(cls.pause)
        document: object
        if self.path.startswith("/v2"):
            status, headers, document = cls.inferences[cls.asked % len(cls.inferences)]
            headers = {"X-Request-Id": "1", "Content-Type": JSON, **headers}
        else:
            status, request_id, document = cls.answers[cls.asked % len(cls.answers)]
            headers = {"X-Request-Id": request_id, "Content-Type": PROBLEM if status >= 400 else "text/html"}
        cls.asked += 1
        body = orjson.dumps(document)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) + cls.missing_bytes))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = handle_any

    def log_message(self, format: str, *args: object) -> None:
        pass


class QuietServer(ThreadingHTTPServer):
    """Says nothing of clients that go."""

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@pytest.fixture
def wrong_server() -> Iterator[str]:
    WrongServer.pause, WrongServer.missing_bytes = 0.0, 0
    with QuietServer(("127.0.0.1", 0), WrongServer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_every_broken_promise_is_found_in_odd_requests(wrong_server: str) -> None:
    result = FuzzResult(seed=1)
    byte_fuzz(wrong_server, 1000, ["letters"], [], result)
    found = "\n".join(result.failures)
    for what in [
        "a server error: 500",
        "answered with ''",
        "another status or id",
        "no documented error",
        "that is no Problem",
        "shows b'FileNotFound",
        "shows b'/home",
        "503 without Retry-After",
        "405 without Allow",
    ]:
        assert what in found, what


def test_every_broken_promise_is_found_in_odd_inferences(wrong_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.faults.fuzz_result.MOST_FAILURES", 10_000)
    result = FuzzResult(seed=1)
    byte_fuzz(wrong_server, 1000, ["letters"], [], result)
    found = "\n".join(result.failures)
    for what in [
        "404 as application/problem+json",
        "that is no InferError",
        "no documented error: {'error': 'not found'}",
        "no documented error: {'error': 'model_not_found: there is none'}",
        "shows b'FileNotFound",
        "a server error: 501",
        "503 without Retry-After",
        "does not follow its schema",
        "has 1 values of label, not 2",
        "has data of label twice, or not at all",
        "has 0 bytes behind the JSON, of which 8",
        "has 7 bytes of label",
        "with a length of 1",
        "cannot be read",
    ]:
        assert what in found, what


def test_every_broken_promise_is_found_on_odd_connections(wrong_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.faults.fuzz_result.MOST_FAILURES", 10_000)
    result = FuzzResult(seed=1)
    connection_fuzz(wrong_server, 100, ["letters"], [], result)
    found = "\n".join(result.failures)
    for what in ["a server error: 500", "answered ['", "no documented error"]:
        assert what in found, what


@pytest.mark.parametrize(("missing_bytes", "what"), [(-5, "no whole answers"), (5, "no whole answers")])
def test_answers_that_are_no_answers_are_found_on_odd_connections(
    wrong_server: str, missing_bytes: int, what: str
) -> None:
    WrongServer.missing_bytes = missing_bytes
    result = FuzzResult(seed=1, deadline=2.0)
    connection_fuzz(wrong_server, 10, ["letters"], [], result)
    assert what in "\n".join(result.failures)


def test_a_connection_that_hangs_is_found(wrong_server: str) -> None:
    WrongServer.pause = GRACE_SECONDS + 0.5
    result = FuzzResult(seed=1, deadline=0.1)
    connection_fuzz(wrong_server, 10, ["letters"], [], result)
    assert "not over after 1." in "\n".join(result.failures)


def test_every_broken_promise_is_found_in_documented_requests(wrong_server: str) -> None:
    result = FuzzResult(seed=1)
    schema_fuzz(wrong_server, 1, ["letters"], [], result)
    found = "\n".join(result.failures)
    for what in ("not_a_server_error", "status_code", "content_type", "response_schema", "response_headers"):
        assert what in found, what


def test_an_answer_after_the_deadline_is_found(wrong_server: str) -> None:
    WrongServer.pause = GRACE_SECONDS + 0.2
    result = FuzzResult(seed=1, deadline=0.1)
    byte_fuzz(wrong_server, 1, ["letters"], [], result)
    assert "after 1." in result.failures[0]


def test_a_request_can_be_sent_again() -> None:
    first, again, other = (odd_request(Random(seed), ["letters"], ["champion"]) for seed in ("0 17", "0 17", "0 18"))
    assert first == again != other
    talk, the_same, another = (odd_talk(Random(seed), ["letters"], ["champion"]) for seed in ("0 17", "0 17", "0 18"))
    assert talk == the_same != another
