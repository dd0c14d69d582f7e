"""Answers that come before the request has ended, requests that break off, and how often an answer is written."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from service.http.exchange import Exchange
from tests.processes import wait_for
from tests.service.wire import PATIENT, WireServer, post, read_all, replies, running


def test_an_early_answer_reaches_a_client_that_is_still_sending(site: WireServer) -> None:
    for _ in range(10):
        connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=20)
        connection.request("POST", "/refuse", bytes(20_000_000), {"Connection": "close"})
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["code"]) == (413, "body_too_large")
        assert response.getheader("connection") == "close"
        connection.close()


def test_a_connection_is_kept_where_the_whole_request_had_come(site: WireServer) -> None:
    with site.connect() as connection:
        for _ in range(3):
            connection.sendall(post(b"/refuse", b"short"))
            (reply,) = replies(connection.recv(1 << 16))
            assert reply.status == 413
            assert "connection" not in reply.headers


def test_a_connection_does_not_linger_for_ever() -> None:
    with running(replace(PATIENT, linger_seconds=0.3)) as site, site.connect() as connection:
        connection.sendall(post(b"/refuse", b"", length=1000))
        (reply,) = replies(read_all(connection))  # our side of the connection has ended
        assert (reply.status, reply.headers["connection"]) == (413, "close")
        wait_for(lambda: site.connections() == 0, 5)


def test_a_client_that_sends_without_end_is_cut_off() -> None:
    limits = replace(PATIENT, linger_seconds=60.0, max_linger_bytes=1 << 20)
    with running(limits) as site, site.connect() as connection:
        connection.sendall(post(b"/refuse", b"", length=1 << 30))
        with pytest.raises(ConnectionError):
            connection.sendall(bytes(100 << 20))
        wait_for(lambda: site.connections() == 0, 5)


# How often an answer is written


class Transport:
    """Notes each write, and whether it was closed."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def answer(
    *messages: dict[str, Any],
    method: str = "POST",
    keep_alive: bool = True,
    paused: bool = False,
    expects_continue: bool = False,
) -> Transport:
    """What is written of an application that sends these messages, and then waits for its client to go."""
    transport = Transport()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)
        if expects_continue:
            await receive()

    async def run() -> None:
        flow = FlowControl(transport)  # type: ignore[arg-type]
        exchange = Exchange(
            scope={"type": "http", "method": method},  # type: ignore[typeddict-item]
            transport=transport,  # type: ignore[arg-type]
            flow=flow,
            logger=logging.getLogger("test"),
            access_logger=logging.getLogger("test"),
            access_log=False,
            default_headers=[(b"date", b"today")],
            message_event=asyncio.Event(),
            expect_100_continue=expects_continue,
            keep_alive=keep_alive,
            on_response=lambda: None,
        )
        exchange.more_body = False
        if paused:
            flow.pause_writing()
            asyncio.get_running_loop().call_later(0.01, flow.resume_writing)
        await exchange.run_asgi(app)

    asyncio.run(run())
    return transport


def start(headers: Sequence[tuple[bytes, bytes]], status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def piece(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


@pytest.mark.parametrize(("keep_alive", "end"), [(True, b""), (False, b"connection: close\r\n")])
def test_a_whole_answer_is_one_write(keep_alive: bool, end: bytes) -> None:
    transport = answer(start([(b"content-length", b"5")], 404), piece(b"whole"), keep_alive=keep_alive)
    head = b"HTTP/1.1 404 Not Found\r\ndate: today\r\ncontent-length: 5\r\n"
    assert transport.writes == [head + end + b"\r\n" + b"whole"]
    assert transport.closed is not keep_alive


def test_an_answer_may_say_that_it_is_the_last_one() -> None:
    transport = answer(start([(b"content-length", b"5"), (b"connection", b"close")]), piece(b"whole"))
    assert transport.writes[0].count(b"connection: close\r\n") == 1
    assert transport.closed


def test_after_an_answer_no_body_is_asked_for() -> None:
    transport = answer(start([(b"content-length", b"5")]), piece(b"whole"), expects_continue=True)
    assert b"".join(transport.writes).count(b"HTTP/1.1 ") == 1


def test_it_waits_for_a_client_that_does_not_read() -> None:
    assert b"".join(answer(start([(b"content-length", b"5")]), piece(b"whole"), paused=True).writes).endswith(b"whole")


def test_an_answer_to_head_has_no_body() -> None:
    transport = answer(start([(b"content-length", b"5")]), piece(b"whole"), method="HEAD")
    assert b"".join(transport.writes).endswith(b"content-length: 5\r\n\r\n")


def test_an_answer_may_come_in_pieces() -> None:
    announced = answer(start([(b"content-length", b"5")]), piece(b"in ", more=True), piece(b"it"))
    assert b"".join(announced.writes).endswith(b"content-length: 5\r\n\r\nin it")
    chunked = answer(start([]), piece(b"in ", more=True), piece(b"it"))
    assert b"".join(chunked.writes).endswith(b"transfer-encoding: chunked\r\n\r\n3\r\nin \r\n2\r\nit\r\n0\r\n\r\n")


@pytest.mark.parametrize("announced", [b"4", b"6"])
def test_a_body_of_another_length_than_announced_ends_the_connection(announced: bytes) -> None:
    assert answer(start([(b"content-length", announced)]), piece(b"whole")).closed


@pytest.mark.parametrize("header", [(b"a", b"b\r\nset-cookie: c"), (b"a\nb", b"c"), (b"a", b"b\rc")])
def test_a_header_cannot_end_its_line(header: tuple[bytes, bytes]) -> None:
    transport = answer(start([(b"content-length", b"5"), header]), piece(b"whole"))
    assert b"".join(transport.writes).startswith(b"HTTP/1.1 500 ")


def test_an_application_that_fails_before_its_body_gets_another_answer() -> None:
    transport = answer(start([(b"content-length", b"5")]))
    assert b"".join(transport.writes).startswith(b"HTTP/1.1 500 ")
