"""Bodies of requests, in raw bytes: FAULTS 4, H03, H04 and H08."""

from __future__ import annotations

import pytest

from tests.processes import wait_for
from tests.service.wire import CHUNKED, CLOSE, HOST, WireServer, check_refusal, is_echo, only, post, read_all, replies

CHUNKED_LAST = CHUNKED.replace(HOST, HOST + CLOSE)


def test_h03_a_chunked_body(site: WireServer) -> None:
    assert is_echo(site.ask(CHUNKED_LAST, b"3\r\nabc\r\n2;a=b\r\nde\r\n0\r\n\r\n"), b"abcde")


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(
    "body", ["zz\r\n", "-1\r\n", "0x1\r\na\r\n", "F" * 17 + "\r\n", "1\r\naXX0\r\n\r\n", "1\na\n0\n\n", "1 \r\na\r\n"]
)
def test_h03_chunks_that_are_none(site: WireServer, body: str, begun: bool) -> None:
    """Whether a handler waits for them already or not."""
    bodies, handled = len(site.bodies), site.handled
    with site.connect() as connection:
        if begun:
            connection.sendall(CHUNKED)
            wait_for(lambda: site.handled == handled + 1, 5)
            connection.sendall(body.encode())
        else:
            connection.sendall(CHUNKED + body.encode())
        check_refusal(only(replies(read_all(connection))), 400, "bad_request")
    assert site.handled == handled + begun
    assert len(site.bodies) == bodies


def test_h03_too_many_chunks(site: WireServer) -> None:
    check_refusal(site.ask(CHUNKED, b"1\r\na\r\n" * 70_000), 413, "body_too_large")
    assert is_echo(site.ask(CHUNKED_LAST, b"1\r\na\r\n" * 65_535 + b"0\r\n\r\n"), b"a" * 65_535)


@pytest.mark.parametrize("body", [b"1;", b"1;a=", b"1\r\na\r\n0\r\nX: ", b"1\r\na\r\n0\r\nX"])
def test_h03_a_chunk_extension_or_a_trailer_that_does_not_end(site: WireServer, body: bytes) -> None:
    check_refusal(site.ask(CHUNKED, body + b"a" * (1 << 20)), 400, "bad_request")


def test_h03_too_many_trailers(site: WireServer) -> None:
    trailers = b"X: %b\r\n" % (b"a" * 1000) * 40
    check_refusal(site.ask(CHUNKED, b"1\r\na\r\n0\r\n" + trailers), 431, "headers_too_large")


def test_a_trailer_is_no_header(site: WireServer) -> None:
    chunks = b"1\r\na\r\n0\r\nX-Forwarded-For: me\r\n\r\n"
    reply = site.ask(CHUNKED_LAST.replace(b"/echo", b"/headers") + chunks)
    assert reply.json() == {"names": ["connection", "host", "transfer-encoding"]}


def test_h04_what_follows_a_body_is_another_request(site: WireServer) -> None:
    first, second = site.talk(post(b"/echo", b"abc") + b"de\r\n\r\n")
    assert is_echo(first, b"abc")
    check_refusal(second, 400, "bad_request")


def test_h08_a_body_that_is_not_wanted_is_not_asked_for(site: WireServer) -> None:
    expect = b"Expect: 100-continue\r\n"
    assert site.ask(post(b"/refuse", b"", expect, length=62_914_560)).status == 413
    with site.connect() as connection:
        connection.sendall(post(b"/echo", b"", expect + CLOSE, length=3))
        assert connection.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"abc")
        assert is_echo(only(replies(read_all(connection))), b"abc")


def test_h08_a_client_of_http_1_0_is_not_told_to_continue(site: WireServer) -> None:
    """It would take that for the answer (RFC 9110, 10.1.1)."""
    head = b"POST /echo HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    assert is_echo(site.ask(head, b"abc"), b"abc")
