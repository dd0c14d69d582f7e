"""Which heads are those of a request, in raw bytes: FAULTS 4, H04, H05, H07, H10, H12 and H16."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.http.connection import ClientConnection
from tests.processes import wait_for
from tests.service.wire import (
    CHUNKED,
    CLOSE,
    HOST,
    PATIENT,
    WireServer,
    check_refusal,
    get,
    is_echo,
    post,
    read_all,
    read_until,
    replies,
    running,
)

# H04: what two servers might read in two ways


@pytest.mark.parametrize(
    "fields",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 5",
        "Content-Length: -1",
        "Content-Length: +1",
        "Content-Length: 0x5",
        "Content-Length: 1 2",
        "Content-Length:",
        "Content-Length: 99999999999999999999",
        "Content-Length: 05",
        "Content-Length: " + "0" * 5000 + "5",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "X: a\r\n folded",
        "X: a\r\n\tfolded",
        "X: a\nY: b",
        "X: a\rY: b",
        "X: a\0b",
        "X: a\x01b",
        "X: a\x7fb",
        "X\0: a",
        "X : a",
        "X Y: a",
        ": a",
        "nothing",
    ],
)
def test_h04_fields_that_are_refused(site: WireServer, fields: str) -> None:
    handled = site.handled
    head = b"POST /echo HTTP/1.1\r\n" + HOST + fields.encode() + b"\r\n\r\n"
    check_refusal(site.ask(head + b"0\r\n\r\n" + get(b"/echo?smuggled")), 400, "bad_request")
    assert site.handled == handled


@pytest.mark.parametrize(
    "data",
    [
        b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /echo HTTP/1.1\n" + HOST + b"\n",
        b"GET /echo HTTP/1.1\r\nHost: here\n\r\n",
        b"GET /echo HTTP/1.1\r\n Host: here\r\n\r\n",
        b"GET /echo HTTP/1.2\r\n" + HOST + b"\r\n",
        b"GET /echo HTTP/2.0\r\n" + HOST + b"\r\n",
        b"GET /echo HTTP/0.9\r\n" + HOST + b"\r\n",
        b"GET /echo\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /\xff HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET\t/echo\tHTTP/1.1\r\n" + HOST + b"\r\n",
        b"get /echo HTTP/1.1\r\n" + HOST + b"\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"FOO /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n",
        # H12: other protocols, as sent by load balancers, HTTP/2, TLS and SSH
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + get(b"/echo"),
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12) + get(b"/echo"),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
        b"SSH-2.0-OpenSSH_9.9\r\n",
    ],
)
def test_h04_h12_what_is_no_request(site: WireServer, data: bytes) -> None:
    handled = site.handled
    check_refusal(site.ask(data), 400, "bad_request")
    assert site.handled == handled


@settings(max_examples=100, deadline=None)
@given(data=st.binary(min_size=1, max_size=200))
def test_h04_any_bytes_get_one_answer(site: WireServer, data: bytes) -> None:
    check_refusal(site.ask(data + b"\r\n\r\n\x00"), 400, "bad_request")


# H05: sizes


def head_of(size: int) -> bytes:
    """A request whose header fields are so large."""
    others = len("HosthereConnectioncloseX")
    return get(b"/echo", CLOSE + b"X: %b\r\n" % (b"a" * (size - others)))


def test_h05_headers(site: WireServer) -> None:
    assert site.ask(head_of(32 << 10)).status == 200
    check_refusal(site.ask(head_of((32 << 10) + 1)), 431, "headers_too_large")
    check_refusal(site.ask(head_of(200_000)), 431, "headers_too_large")
    fields = b"".join(b"X-%d: a\r\n" % number for number in range(98))
    assert site.ask(get(b"/echo", CLOSE + fields)).status == 200
    check_refusal(site.ask(get(b"/echo", CLOSE + fields + b"Y: a\r\n")), 431, "headers_too_large")


@pytest.mark.parametrize("start", [b"GET /echo HTTP/1.1\r\nX: ", b"GET /echo HTTP/1.1\r\n" + HOST])
def test_h05_a_field_that_does_not_end_is_refused_at_once(site: WireServer, start: bytes) -> None:
    check_refusal(site.ask(start + b"a" * 50_000), 431, "headers_too_large")
    check_refusal(site.ask(start, *[b"a" * 1000] * 50), 431, "headers_too_large")


def test_h05_many_small_requests_are_not_one_large_head(site: WireServer) -> None:
    """They come in pieces that end in the middle of a head."""
    one = get(b"/echo", b"X: %b\r\n" % (b"a" * 1000))
    data = one * 100 + get(b"/echo", CLOSE)
    with site.connect() as connection:
        connection.sendall(data[:-3])
        answer = read_until(connection, b"HTTP/1.1 200", 100)
        connection.sendall(data[-3:])
        assert len(replies(answer + read_all(connection))) == 101


def test_h05_urls(site: WireServer) -> None:
    longest = b"/echo?" + b"a" * ((8 << 10) - 6)
    assert site.ask(get(longest, CLOSE)).status == 200
    for pieces in ([get(longest + b"a")], [b"GET /echo?" + b"a" * 100_000], [b"GET /", *[b"a" * 1000] * 9]):
        check_refusal(site.ask(*pieces), 414, "url_too_long")


# H07: methods


@pytest.mark.parametrize("method", ["FOO", "TRACE", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "PROPFIND"])
def test_h07_methods_that_a_route_does_not_take(site: WireServer, method: str) -> None:
    reply = site.ask(get(b"/echo", CLOSE).replace(b"GET", method.encode()))
    assert (reply.status, set(reply.headers["allow"].split(", "))) == (405, {"GET", "HEAD", "POST"})
    assert reply.headers["connection"] == "close"
    assert site.ask(get(b"/nowhere", CLOSE).replace(b"GET", method.encode())).status == 404


@pytest.mark.parametrize("method", [b"CONNECT", b"FOO"])
def test_h07_nothing_is_read_after_a_request_that_cannot_be_read_on(site: WireServer, method: bytes) -> None:
    reply = site.ask(get(b"/echo").replace(b"GET", method) + get(b"/echo?smuggled"))
    assert reply.status == 405


@pytest.mark.parametrize(("target", "status"), [(b"/echo", 200), (b"/nowhere", 404), (b"/" + b"a" * 9000, 414)])
def test_h07_head(site: WireServer, target: bytes, status: int) -> None:
    with site.connect() as connection:
        connection.sendall(get(target, CLOSE).replace(b"GET", b"HEAD"))
        head, end, body = read_all(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d" % status)
    assert (end, body) == (b"\r\n\r\n", b"")


# H10, H12: fields that are looked at, and fields that are not


@pytest.mark.parametrize(
    "name", ["", "a/?x=", "x/docs?", "a" * 10_000, "a b", "a@b", "a,b", "[::1", "a:b", "a:1:2", "é", "a\r\nHost: a"]
)
def test_h10_hosts_that_are_none(site: WireServer, name: str) -> None:
    for version in (b"1.1", b"1.0"):
        head = b"GET /echo HTTP/%b\r\nHost: %b\r\n\r\n" % (version, name.encode())
        check_refusal(site.ask(head), 400, "bad_request")


def test_h10_a_host_is_missing(site: WireServer) -> None:
    check_refusal(site.ask(b"GET /echo HTTP/1.1\r\n\r\n"), 400, "bad_request")
    assert is_echo(site.ask(b"GET /echo HTTP/1.0\r\n\r\n"))


@pytest.mark.parametrize(
    "name", ["a", "graftwork_api:8000", "127.0.0.1:8000", "[::1]:80", "xn--4gbrim.example.", "a \t"]
)
def test_h10_hosts(site: WireServer, name: str) -> None:
    assert is_echo(site.ask(get(b"/echo", CLOSE).replace(b"here", name.encode())))


@pytest.mark.parametrize(
    "headers",
    [
        b"Range: bytes=0-1\r\n",
        b"If-None-Match: *\r\nIf-Modified-Since: Sun, 22 Nov 2026 10:00:00 GMT\r\n",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhl\r\n",
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
    ],
)
def test_h12_offers_that_are_ignored(site: WireServer, headers: bytes) -> None:
    """However they are cut, their body is theirs."""
    body = b"a body that must not be lost"
    data, last = post(b"/echo", body, headers), get(b"/echo", CLOSE)
    for pieces in ([data + last], [data[: -len(body)], body + last], [data[:-5], data[-5:], last]):
        first, second = site.talk(*pieces)
        assert is_echo(first, body)
        assert is_echo(second)


# H16, and the log


def test_h16_a_refusal_has_the_id_that_its_request_had_if_it_is_harmless(site: WireServer) -> None:
    bad = b"X: y\r\nbad\r\n"
    assert site.ask(get(b"/echo", b"X-Request-Id: mine\r\n" + bad)).headers["x-request-id"] == "mine"
    for name in ('a","status":200', "é", "a" * 65, "a b"):
        reply = site.ask(get(b"/echo", b"X-Request-Id: %b\r\n%b" % (name.encode(), bad)))
        assert len(reply.headers["x-request-id"]) == 32


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (get(b"/echo?secret", b"X\r\n"), ("GET", "/echo", 400, "bad_request")),
        (b"\x16\x03\x01", ("-", "", 400, "bad_request")),
        (b"GET /a?" + b"b" * 9000, ("GET", "/a", 414, "url_too_long")),
        (b"POST /" + b"a" * 9000, ("POST", "/" + "a" * 255, 414, "url_too_long")),
        (CHUNKED + b"zz\r\n", ("POST", "/echo", 400, "bad_request")),
    ],
)
def test_each_refusal_is_one_line_in_the_log(site: WireServer, data: bytes, line: tuple[object, ...]) -> None:
    before = len(site.log)
    reply = site.ask(data)
    wait_for(lambda: len(site.log) > before, 5)
    (found,) = site.log[before:]
    assert (found["method"], found["path"], found["status"], found["code"]) == line
    assert found["request_id"] == reply.headers["x-request-id"]


def test_a_fault_of_ours_is_an_internal_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: object, version: str) -> None:
        raise RuntimeError("secret")

    with running(PATIENT) as site:
        with monkeypatch.context() as patch:
            patch.setattr(ClientConnection, "_check_head", broken)
            reply = site.ask(get(b"/echo"))
        check_refusal(reply, 500, "internal")
        assert b"secret" not in reply.body
        assert any(record.exc_info for record in caplog.records)
        assert site.answers()
