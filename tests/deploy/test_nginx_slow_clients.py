"""Slow clients of nginx, and those that leave: the server does not notice them."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from tests.deploy.proxy import PREDICT, Proxy
from tests.deploy.upstream import Stage, answer
from tests.processes import wait_for
from tests.server_process import ServerProcess


def test_a_body_reaches_the_server_when_it_is_whole(stage: Stage) -> None:
    proxy, (upstream,) = stage()
    with proxy.connect() as slow:
        slow.sendall(b"POST /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 300000\r\n\r\n")
        for _ in range(3):
            slow.sendall(bytes(99_999))
            assert proxy.ask("GET", "/quick").status == 200  # by then nginx, which has one process, has read that much
        assert [request.path for request in upstream.received] == ["/quick"] * 3
        assert upstream.connections == 1
        slow.sendall(bytes(3))
        assert slow.recv(12) == b"HTTP/1.1 200"
    assert upstream.received[-1].body == bytes(300_000)


def test_a_client_that_leaves_is_not_computed_for(stage: Stage) -> None:
    proxy, (upstream,) = stage()
    left = threading.Event()
    upstream.answer = lambda request: answer(200, b"") if left.wait(60) else b""
    with proxy.connect() as client:
        client.sendall(b"GET /left HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for(lambda: len(upstream.received) == 1, 10)
    try:
        wait_for(
            lambda: proxy.log() and proxy.log()[-1]["status"] == "499", 10
        )  # it has closed the server's connection
    finally:
        left.set()
    wait_for(lambda: upstream.closed == 1, 10)


@pytest.mark.slow
def test_h01_h02_slow_clients_are_cut_off_after_10_s_and_hold_up_nobody(proxy: Proxy, server: ServerProcess) -> None:
    before = server.metric("graftwork_requests_total")
    started = time.monotonic()
    head = b"POST %b HTTP/1.1\r\nHost: x\r\n" % PREDICT.encode()
    slow = [proxy.connect() for _ in range(100)]
    try:
        for number, connection in enumerate(slow):
            connection.sendall(head if number % 2 else head + b"Content-Length: 100\r\n\r\nabc")
            connection.setblocking(False)
        left = list(slow)
        durations = []
        while left:
            asked = time.monotonic()
            assert proxy.ask("GET", "/health/live").status == 200
            durations.append(time.monotonic() - asked)
            left = [connection for connection in left if not has_ended(connection)]
            assert time.monotonic() - started < 20
    finally:
        for connection in slow:
            connection.close()
    assert time.monotonic() - started > 9
    assert sorted(durations)[len(durations) // 2] < 0.1
    assert server.metric("graftwork_requests_total") == before


def has_ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
