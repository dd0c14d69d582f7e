"""One more try: what nginx asks of another server, or once more."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter

import pytest

from tests.deploy.proxy import PREDICT, check_refusal
from tests.deploy.upstream import Received, Stage, answer, digest_of

IMPATIENT = {  # a hundredth of its patience
    "proxy_read_timeout 35s": "proxy_read_timeout 350ms",
    "upstream_timeout 5s": "upstream_timeout 50ms",
}


def overloaded(request: Received) -> bytes:
    return answer(503, b'{"code":"overloaded"}', "Content-Type: application/problem+json", "Retry-After: 7")


def gone(request: Received) -> bytes:
    return b""


def test_retry_after_passes(stage: Stage) -> None:
    proxy, (upstream,) = stage()
    upstream.answer = overloaded
    reply = proxy.ask("POST", PREDICT, b"{}")
    assert (reply.status, reply.headers["retry-after"], reply.json()) == (503, "7", {"code": "overloaded"})
    assert len(upstream.received) == 1


@pytest.mark.parametrize("fault", [overloaded, gone])
def test_another_server_is_asked_where_one_cannot_answer(stage: Stage, fault: object) -> None:
    proxy, (bad, good) = stage(2)
    bad.answer = fault  # type: ignore[assignment]
    bodies = [b"%d" % number for number in range(10)]
    replies = [proxy.ask("POST", PREDICT, body) for body in bodies]
    assert [reply.body for reply in replies] == [hashlib.sha256(body).hexdigest().encode() for body in bodies]
    assert [request.body for request in good.received] == bodies  # each of them once
    assert len(bad.received) == 5  # and it keeps its turn: a server that sheds load is not taken out


def test_but_only_one_more(stage: Stage) -> None:
    proxy, upstreams = stage(2)
    for upstream in upstreams:
        upstream.answer = overloaded
    reply = proxy.ask("POST", PREDICT, b"{}")
    assert (reply.status, reply.headers["retry-after"]) == (503, "7")
    assert [len(upstream.received) for upstream in upstreams] == [1, 1]


def test_and_not_for_what_is_slow(stage: Stage) -> None:
    proxy, upstreams = stage(2, changes=IMPATIENT)
    gate = threading.Event()
    for upstream in upstreams:
        upstream.answer = lambda request: digest_of(request) if gate.wait(60) else b""
    try:
        check_refusal(proxy.ask("POST", PREDICT, b"{}"), 504, "deadline_exceeded")
        assert sorted(len(upstream.received) for upstream in upstreams) == [0, 1]
    finally:
        gate.set()


def test_an_idle_connection_that_was_just_closed_costs_no_request(stage: Stage) -> None:
    proxy, (upstream,) = stage()
    asked: Counter[int] = Counter()

    def every_second_one_ends(request: Received) -> bytes:
        asked[request.connection] += 1
        return b"" if asked[request.connection] == 2 else digest_of(request)

    upstream.answer = every_second_one_ends
    assert [proxy.ask("POST", PREDICT, b"{}").status for _ in range(6)] == [200] * 6
    assert upstream.connections == 6
