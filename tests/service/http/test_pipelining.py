"""Row H06: requests one after the other on a connection."""

from __future__ import annotations

import itertools
import socket
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.processes import wait_for
from tests.service.wire import (
    CHUNKED,
    CLOSE,
    PATIENT,
    WireServer,
    check_refusal,
    get,
    is_echo,
    post,
    read_all,
    replies,
    running,
)


def test_h06_a_hundred_requests_are_answered_in_order(site: WireServer) -> None:
    requests = [post(b"/echo?%d" % number, b"body %d" % number) for number in range(100)]
    found = site.talk(b"".join(requests) + get(b"/echo?last", CLOSE))
    assert [reply.json()["query"] for reply in found] == [*map(str, range(100)), "last"]
    assert all(is_echo(reply, b"body %d" % number) for number, reply in enumerate(found[:100]))


EVERY_KIND = (
    post(b"/echo?0", b"abc")
    + CHUNKED.replace(b"/echo", b"/echo?1")
    + b"3\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n"
    + get(b"/echo?2", b"Connection: Upgrade\r\nUpgrade: h2c\r\n")
    + post(b"/echo?3", b"abcdef", b"Connection: Upgrade\r\nUpgrade: websocket\r\n")
    + get(b"/echo?4", CLOSE)
)


@settings(max_examples=30, deadline=None)
@given(cuts=st.sets(st.integers(1, len(EVERY_KIND) - 1), max_size=8))
def test_h06_it_does_not_matter_how_the_bytes_are_cut(site: WireServer, cuts: set[int]) -> None:
    with site.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start, end in itertools.pairwise([0, *sorted(cuts), len(EVERY_KIND)]):
            connection.sendall(EVERY_KIND[start:end])
            time.sleep(0.001)  # so that pieces stay pieces
        found = replies(read_all(connection))
    assert [reply.json()["query"] for reply in found] == ["0", "1", "2", "3", "4"]
    for reply, body in zip(found, [b"abc", b"abcde", b"", b"abcdef", b""], strict=True):
        assert is_echo(reply, body)


@pytest.mark.parametrize("bad", [b"BAD\r\n\r\n", CHUNKED + b"1\r\na\r\nzz\r\n", get(b"/echo", b"Host: twice\r\n")])
def test_h06_a_bad_request_after_good_ones(site: WireServer, bad: bytes) -> None:
    site.gate.clear()
    handled = site.handled
    with site.connect() as connection:
        connection.sendall(get(b"/hold") * 3 + bad + get(b"/echo"))
        wait_for(lambda: site.handled == handled + 1, 5)
        site.gate.set()
        *answered, last = replies(read_all(connection))
    assert [reply.status for reply in answered] == [200] * 3
    check_refusal(last, 400, "bad_request")


def test_h06_more_requests_than_may_be_sent_ahead() -> None:
    with running(replace(PATIENT, max_pipelined_requests=10)) as site:
        *answered, last = site.talk(get(b"/echo") * 20)
    assert [reply.status for reply in answered] == [200] * 11
    check_refusal(last, 400, "bad_request")


@pytest.mark.parametrize("more", [get(b"/echo?smuggled"), b"\x00 no request"])
@pytest.mark.parametrize("last", [get(b"/echo", CLOSE), b"GET /echo HTTP/1.0\r\n\r\n"])
def test_what_follows_the_last_request_is_not_looked_at(site: WireServer, last: bytes, more: bytes) -> None:
    handled = site.handled
    assert is_echo(site.ask(last + more))
    assert site.handled == handled + 1
