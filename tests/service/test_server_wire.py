"""FAULTS 4: HTTP, as far as it is ours, and the log of all that the tests of the real server have asked."""

from __future__ import annotations

import zlib

import pytest

from tests.server_process import ServerProcess, json_body
from tests.service.answers import check_refusal

pytestmark = pytest.mark.usefixtures("nothing_dies")


def test_compressed_bodies(server: ServerProcess) -> None:
    reply = server.request("POST", "/v1/models/letters:predict", zlib.compress(b"{}"), {"content-encoding": "deflate"})
    check_refusal(reply, 415, "unsupported_media_type")


def test_a_chunked_body_is_read_no_further_than_the_limit(server: ServerProcess) -> None:
    chunk = b"%x\r\n%s\r\n" % (1 << 16, b" " * (1 << 16))
    request = b"POST /v1/models/letters:predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    try:
        answer = server.raw(request + chunk * 40 + b"0\r\n\r\n")
    except ConnectionError:  # the answer came, and the end, while we were still sending
        return
    assert answer.startswith(b"HTTP/1.1 413")


def test_h06_pipelined_requests_are_answered_in_order(server: ServerProcess) -> None:
    body = json_body(["a"])
    one = b"POST /v1/models/letters:predict HTTP/1.1\r\nHost: x\r\nX-Request-Id: r%d\r\nContent-Length: %d\r\n\r\n%s"
    requests = b"".join(one % (number, len(body), body) for number in range(20))
    answer = server.raw(requests + b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    ids = [line.split(b": ")[1] for line in answer.split(b"\r\n") if line.startswith(b"x-request-id")]
    assert ids[:20] == [b"r%d" % number for number in range(20)]


@pytest.mark.parametrize(
    "name", ["..%2f..%2fetc", "%2e%2e", "..%5c", "%00", "%ff", "a%2fb", "%252e%252e", "x" * 300, "a%20b"]
)
def test_h09_names_that_are_paths(server: ServerProcess, name: str) -> None:
    for method, suffix in (("GET", ""), ("POST", ":predict")):
        reply = server.request(method, f"/v1/models/{name}{suffix}", b"{}" if method == "POST" else None)
        assert reply.status in (400, 404)
        assert reply.headers["content-type"] == "application/problem+json"


def test_no_cross_origin_reads(server: ServerProcess) -> None:
    reply = server.request("GET", "/v1/models", headers={"origin": "https://evil.example"})
    assert not [name for name in reply.headers if name.startswith("access-control")]


def test_every_line_of_the_log_is_one_json_object(server: ServerProcess) -> None:
    records = server.records()
    assert {record["level"] for record in records} <= {"info", "warning"}
    assert not [record for record in records if "traceback" in record]
