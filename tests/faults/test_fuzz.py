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
from tests.faults.figure import check
from tests.faults.fuzz import any_request
from tests.faults.fuzz_result import GRACE_SECONDS, FuzzResult
from tests.faults.schema_fuzz import schema_fuzz

CASES = int(os.environ.get("GRAFTWORK_FAULT_CASES", "1000"))
SEED = int(os.environ.get("GRAFTWORK_FAULT_SEED", "0"))


def test_g8_any_request() -> None:
    figures = any_request(cases=CASES, seed=SEED)
    check(figures)
    statuses = {figure.name for figure in figures}
    for status in (200, 400, 404, 405, 413, 415, 422):  # it came past every check there is
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
    asked = 0
    pause = 0.0

    def handle_any(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        cls = type(self)
        time.sleep(cls.pause)
        status, request_id, document = cls.answers[cls.asked % len(cls.answers)]
        cls.asked += 1
        body = orjson.dumps(document)
        self.send_response(status)
        self.send_header("X-Request-Id", request_id)
        self.send_header("Content-Type", "application/problem+json" if status >= 400 else "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = handle_any

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def wrong_server() -> Iterator[str]:
    WrongServer.pause = 0.0
    with ThreadingHTTPServer(("127.0.0.1", 0), WrongServer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_every_broken_promise_is_found_in_odd_requests(wrong_server: str) -> None:
    result = FuzzResult(seed=1)
    byte_fuzz(wrong_server, 200, ["letters"], [], result)
    found = "\n".join(result.failures)
    for what in [
        "a server error: 500",
        "answered with ''",
        "another status or id",
        "no documented error",
        "that is no problem",
        "shows b'FileNotFound",
        "shows b'/home",
        "503 without Retry-After",
        "405 without Allow",
    ]:
        assert what in found, what


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
