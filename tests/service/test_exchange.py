"""Answers that come before the request has ended, and requests that break off."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.service.conftest import wait_for
from tests.service.wire import PATIENT, WireServer, post, read_all, replies, running


@pytest.fixture(scope="module")
def site() -> Iterator[WireServer]:
    with running(PATIENT) as server:
        yield server


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
