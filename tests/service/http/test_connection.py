"""Clients that are slow, and the end of a server, in raw bytes: FAULTS H01 and H02."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pytest

from service.http.limits import ConnectionLimits
from tests.processes import wait_for
from tests.server_process import ServerProcess
from tests.service.wire import (
    CHUNKED,
    CLOSE,
    HOST,
    PATIENT,
    WireServer,
    check_refusal,
    get,
    is_echo,
    only,
    post,
    read_all,
    read_until,
    replies,
    running,
)

QUICK = ConnectionLimits(
    header_timeout_seconds=0.4,
    body_timeout_seconds=1.5,
    body_grace_seconds=0.3,
    keep_alive_seconds=0.4,
    write_timeout_seconds=0.4,
    linger_seconds=0.4,
    sweep_seconds=0.05,
)


@pytest.fixture
def quick() -> Iterator[WireServer]:
    """With short times."""
    with running(QUICK) as server:
        yield server


def send_slowly(connection: socket.socket, piece: bytes, *, until: float) -> bytes:
    """Sends a piece every 30 ms until the server ends the connection; what it had to say."""
    answer = b""
    connection.settimeout(0.03)
    while time.monotonic() < until:
        with suppress(ConnectionError):
            connection.sendall(piece)
        with suppress(TimeoutError, ConnectionError):
            chunk = connection.recv(1 << 16)
            if not chunk:
                return answer
            answer += chunk
    raise AssertionError("the connection is still open")


# H01: heads


def test_h01_a_head_that_comes_byte_by_byte(quick: WireServer) -> None:
    with quick.connect() as connection:
        connection.sendall(b"GET /echo HTTP/1.1\r\n" + HOST + b"X: ")
        answer = send_slowly(connection, b"a", until=time.monotonic() + 10)
    check_refusal(only(replies(answer)), 408, "request_timeout")
    assert quick.handled == 0
    assert quick.answers()


def test_h01_a_connection_that_never_says_anything_is_closed_without_a_word(quick: WireServer) -> None:
    started = time.monotonic()
    with quick.connect() as connection:
        assert read_all(connection) == b""
    assert 0.3 < time.monotonic() - started < 5
    assert quick.log == []


def test_h01_the_time_for_a_later_head_starts_with_its_first_byte() -> None:
    with running(replace(QUICK, keep_alive_seconds=30.0)) as site, site.connect() as connection:
        connection.sendall(get(b"/echo"))
        assert is_echo(only(replies(connection.recv(1 << 16))))
        time.sleep(0.8)  # longer than a head may take
        started = time.monotonic()
        connection.sendall(b"GET /ec")
        check_refusal(only(replies(read_all(connection))), 408, "request_timeout")
        assert time.monotonic() - started > 0.3


def test_an_idle_connection_is_closed_without_a_word(quick: WireServer) -> None:
    with quick.connect() as connection:
        connection.sendall(get(b"/echo"))
        assert is_echo(only(replies(connection.recv(1 << 16))))
        started = time.monotonic()
        assert read_all(connection) == b""
        assert 0.3 < time.monotonic() - started < 5
    assert [line["status"] for line in quick.log] == [200]
    wait_for(lambda: quick.connections() == 0, 5)


# H02: bodies, and answers that are not read


def test_h02_a_body_that_comes_too_slowly(quick: WireServer) -> None:
    with quick.connect() as connection:
        connection.sendall(post(b"/echo", b"", b"X-Request-Id: slow\r\n", length=1000))
        reply = only(replies(send_slowly(connection, b"a", until=time.monotonic() + 10)))
    check_refusal(reply, 408, "request_timeout")
    assert reply.json()["request_id"] == "slow"
    wait_for(lambda: len(quick.log) > 0, 5)
    (line,) = quick.log
    assert (line["request_id"], line["status"], line["code"]) == ("slow", 408, "request_timeout")
    assert quick.outcomes() == {"client_error": 1}  # once, and not as a client that hung up
    assert quick.bodies == []


def test_h02_a_body_that_does_not_end_in_time_however_fast_it_comes(quick: WireServer) -> None:
    started = time.monotonic()
    with quick.connect() as connection:
        connection.sendall(CHUNKED)
        answer = send_slowly(connection, b"400\r\n" + bytes(1024) + b"\r\n", until=started + 10)
    check_refusal(only(replies(answer)), 408, "request_timeout")
    assert time.monotonic() - started > 1.3


def test_h02_a_body_that_comes_slowly_but_surely() -> None:
    body = bytes(range(256)) * 16
    with running(replace(QUICK, body_timeout_seconds=30.0)) as site, site.connect() as connection:
        connection.sendall(post(b"/echo", b"", CLOSE, length=len(body)))
        for start in range(0, len(body), 256):
            connection.sendall(body[start : start + 256])
            time.sleep(0.05)
        assert is_echo(only(replies(read_all(connection))), body)


def test_h02_no_client_is_blamed_for_a_body_that_the_server_does_not_read(quick: WireServer) -> None:
    body = bytes(16 << 20)  # more than fits between two sockets
    with quick.connect() as connection:
        sending = threading.Thread(target=connection.sendall, args=[post(b"/hold", body, CLOSE)])
        sending.start()
        wait_for(lambda: quick.handled == 1, 5)
        time.sleep(2)  # longer than a body may take
        quick.gate.set()
        assert is_echo(only(replies(read_all(connection))), body)
        sending.join()


@pytest.mark.parametrize("sends", [False, True])
def test_h02_no_client_is_blamed_for_a_body_before_it_is_asked_for(quick: WireServer, sends: bool) -> None:
    with quick.connect() as connection:
        connection.sendall(get(b"/hold") + post(b"/echo", b"", CLOSE + b"Expect: 100-continue\r\n", length=3))
        wait_for(lambda: quick.handled == 1, 5)
        time.sleep(1)  # longer than a body may make no progress
        quick.gate.set()
        first, asked, _ = read_until(connection, b"HTTP/1.1 100 Continue\r\n\r\n").partition(b"HTTP/1.1 100 ")
        assert (only(replies(first)).status, asked) == (200, b"HTTP/1.1 100 ")
        if sends:
            connection.sendall(b"abc")
            assert is_echo(only(replies(read_all(connection))), b"abc")
        else:
            check_refusal(only(replies(read_all(connection))), 408, "request_timeout")


def test_h02_a_client_that_does_not_read_its_answer_is_cut_off(quick: WireServer) -> None:
    with quick.connect(receive_buffer=4096) as connection:
        connection.sendall(get(b"/much?bytes=50000000"))
        wait_for(lambda: quick.connections() == 1, 5)
        wait_for(lambda: quick.connections() == 0, 10)
    assert quick.answers()


def test_h02_a_client_that_reads_slowly_gets_all_of_its_answer() -> None:
    """Although the kernel, which holds megabytes of it, asks for more only every few seconds."""
    size = 20_000_000
    limits = replace(PATIENT, write_timeout_seconds=1.0)
    with running(limits) as site, site.connect(receive_buffer=1 << 16) as connection:
        connection.sendall(get(b"/much?bytes=%d" % size, CLOSE))
        started, received = time.monotonic(), 0
        while chunk := connection.recv(1 << 20):
            received += len(chunk)
            if time.monotonic() - started < 4:
                time.sleep(0.1)
    assert received > size


# The end of a server


def test_a_stopping_server_answers_what_it_has_begun_and_closes_the_rest() -> None:
    with running(PATIENT) as site, site.connect() as idle, site.connect() as lingering, site.connect() as busy:
        idle.sendall(get(b"/echo"))
        assert is_echo(only(replies(idle.recv(1 << 16))))
        lingering.sendall(post(b"/refuse", b"", length=1000))
        assert lingering.recv(1 << 16)
        busy.sendall(get(b"/hold"))
        wait_for(lambda: site.handled == 2, 5)
        site.uvicorn.should_exit = True
        assert idle.recv(1) == b""
        wait_for(lambda: site.connections() == 1, 1)
        busy.sendall(get(b"/echo"))  # too late
        site.gate.set()
        reply = only(replies(read_all(busy)))
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        site.thread.join(5)
        assert not site.thread.is_alive()


def test_a_server_that_is_about_to_stop_answers_all_that_it_has_read(site: WireServer) -> None:
    site.gate.clear()
    handled = site.handled
    with site.connect() as connection:
        connection.sendall(b"".join(get(b"/hold?%d" % number) for number in range(5)))
        wait_for(lambda: site.handled == handled + 1, 5)
        site.telemetry.closing = True
        try:
            site.gate.set()
            found = replies(read_all(connection))
        finally:
            site.telemetry.closing = False
    assert [(reply.status, reply.json()["query"]) for reply in found] == [(200, str(number)) for number in range(5)]
    assert ["connection" in reply.headers for reply in found] == [False] * 4 + [True]


# The server that users run


GET, POST = {"GET", "HEAD"}, {"POST"}
ROUTES = {
    "/v1/models": GET,
    "/v1/models/letters": GET,
    "/v1/models/letters/metadata": GET,
    "/v1/models/letters:predict": POST,
    "/v1/models/letters/versions/1:predict": POST,
    "/health/live": GET,
    "/health/ready": GET,
    "/metrics": GET,
}


def test_h07_every_method_on_every_route(server: ServerProcess) -> None:
    """Without the body that they announce: nobody waits for it."""
    methods = {"HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "FOO", "GET", "POST"}
    for path, taken in ROUTES.items():
        for method in sorted(methods - taken):
            request = post(path.encode(), b"", CLOSE, length=1_000_000).replace(b"POST", method.encode(), 1)
            head, _, body = server.raw(request).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 405"), (method, path, head)
            (allow,) = re.findall(r"\r\nallow: (.*?)\r\n", head.decode())
            assert set(allow.split(", ")) == taken
            assert body == b"" if method == "HEAD" else json.loads(body)["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"GET /health/live HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "bad_request"),
        (get(b"/" + b"a" * 9000), 414, "url_too_long"),
        (get(b"/health/live", b"X: %b\r\n" % (b"a" * 33_000)), 431, "headers_too_large"),
        (CHUNKED.replace(b"/echo", b"/v1/models/letters:predict") + b"zz\r\n", 400, "bad_request"),
    ],
)
def test_limits_hold_in_the_server_that_users_run(server: ServerProcess, data: bytes, status: int, code: str) -> None:
    reply = only(replies(server.raw(data)))
    check_refusal(reply, status, code)
    ids = [reply.headers["x-request-id"], "after-" + reply.headers["x-request-id"]]
    server.request("GET", "/health/live", headers={"x-request-id": ids[1]})

    def logged() -> list[object]:
        return [line["status"] for line in server.records() if line.get("request_id") in ids]

    wait_for(lambda: logged()[-1:] == [200], 5)
    assert logged() == [status, 200]


def test_websockets_are_not_spoken(server: ServerProcess) -> None:
    offer = (
        b"Connection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhl\r\n"
    )
    assert only(replies(server.raw(get(b"/health/live", offer)))).json() == {"live": True}
