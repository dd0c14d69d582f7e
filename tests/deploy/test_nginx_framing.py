"""Requests whose end is in dispute, and abusive chunks: nothing of them reaches the server but what nginx read.

Every attack carries a second request in what might be taken for its body. Were the server to see it, the answers of all
who share the connection to the server would be off by one: request smuggling (RFC 9112, 11.2).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.deploy.proxy import JSON, PREDICT, Proxy, check_refusal
from tests.deploy.upstream import Stage
from tests.processes import resident_bytes, wait_for
from tests.server_process import ServerProcess, json_body

MIB = 1 << 20
VALID = json_body(["a"])
SMUGGLED = b"POST /v1/models/moods:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(VALID), VALID)
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(VALID), VALID)
HEAD = b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" % PREDICT.encode()
LENGTH = b"Content-Length: %d\r\n" % len(VALID)
CODING = b"Transfer-Encoding: chunked\r\n"

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _nobody_else_notices(proxy: Proxy, server: ServerProcess) -> Iterator[None]:
    """After every case the next request gets its own answer, and the server has seen nothing that was smuggled."""
    smuggled = predictions(server, "moods")
    workers = server.workers()
    yield
    for _ in range(3):
        request_id = f"after-{next(_numbers)}"
        reply = proxy.ask("POST", PREDICT, VALID, {**JSON, "x-request-id": request_id})
        assert (reply.status, reply.json()["request_id"], reply.json()["model"]) == (200, request_id, "letters")
    assert predictions(server, "moods") == smuggled
    assert server.workers() == workers


def predictions(server: ServerProcess, model: str) -> float:
    """Prediction requests that the server has counted, whatever became of them."""
    counted = server.metric("graftwork_requests_total").items()
    return sum(value for labels, value in counted if labels[0] == model)


REFUSED = {
    "length and coding": LENGTH + CODING + b"\r\n" + CHUNKED,
    "coding and length": CODING + b"Content-Length: 4\r\n\r\n" + CHUNKED,
    "length and an unknown coding": LENGTH + b"Transfer-Encoding: xchunked\r\n\r\n" + VALID,
    "unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKED,
    "chunked, identity": b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNKED,
    "identity, chunked": b"Transfer-Encoding: identity, chunked\r\n\r\n" + CHUNKED,
    "gzip, chunked": b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKED,
    "identity": b"Transfer-Encoding: identity\r\n\r\n" + CHUNKED,
    "quoted": b'Transfer-Encoding: "chunked"\r\n\r\n' + CHUNKED,
    "two codings": CODING + b"Transfer-Encoding: identity\r\n\r\n" + CHUNKED,
    "chunked twice": CODING + CODING + b"\r\n" + CHUNKED,
    "space before the colon": b"Transfer-Encoding : chunked\r\n\r\n" + CHUNKED,
    "space before the colon, and a length": LENGTH + b"Transfer-Encoding : chunked\r\n\r\n" + VALID,
    "tab": b"Transfer-Encoding:\tchunked\r\n\r\n" + CHUNKED,
    "vertical tab": b"Transfer-Encoding: \x0bchunked\r\n\r\n" + CHUNKED,
    "NUL behind the coding": b"Transfer-Encoding: chunked\0\r\n\r\n" + CHUNKED,
    "folded coding": b"Transfer-Encoding:\r\n chunked\r\n\r\n" + CHUNKED,
    "folded other header": LENGTH + b"X: a\r\n b\r\n\r\n" + VALID,
    "bare CR hides a coding": LENGTH + b"X: a\rTransfer-Encoding: chunked\r\n\r\n" + VALID,
    "bare LF hides a coding": LENGTH + b"X: a\nTransfer-Encoding: chunked\r\n\r\n" + VALID,
    "two lengths": LENGTH + b"Content-Length: 400\r\n\r\n" + VALID,
    "one length twice": LENGTH + LENGTH + b"\r\n" + VALID,
    "list of lengths": b"Content-Length: %d, %d\r\n\r\n" % (len(VALID), len(VALID)) + VALID,
    "+1": b"Content-Length: +%d\r\n\r\n" % len(VALID) + VALID,
    "negative length": b"Content-Length: -1\r\n\r\n" + VALID,
    "length in hex": b"Content-Length: 0x10\r\n\r\n" + VALID,
    "no length": b"Content-Length:\r\n\r\n" + VALID,
    "overflowing length": b"Content-Length: 18446744073709551617\r\n\r\n" + VALID,
    "NUL in a header": LENGTH + b"X: a\0b\r\n\r\n" + VALID,
    "NUL in a name": LENGTH + b"X\0: a\r\n\r\n" + VALID,
    "no chunk size": CODING + b"\r\nzz\r\nabc\r\n0\r\n\r\n",
    "empty chunk size": CODING + b"\r\n\r\nabc\r\n0\r\n\r\n",
    "negative chunk size": CODING + b"\r\n-1\r\nabc\r\n0\r\n\r\n",
    "prefixed chunk size": CODING + b"\r\n0x3\r\nabc\r\n0\r\n\r\n",
    "overflowing chunk size": CODING + b"\r\n10000000000000001\r\na\r\n0\r\n\r\n",
    "bad terminator": CODING + b"\r\n3\r\nabcXX0\r\n\r\n",
}


@pytest.mark.parametrize("rest", REFUSED.values(), ids=REFUSED)
def test_h04_a_request_whose_end_is_in_dispute_is_refused(proxy: Proxy, server: ServerProcess, rest: bytes) -> None:
    before = predictions(server, "letters")
    (refused,) = proxy.exchange(HEAD + rest + SMUGGLED)
    check_refusal(refused, 400, "bad_request")
    assert predictions(server, "letters") == before


def test_h04_http_1_0_has_no_chunks(proxy: Proxy) -> None:
    (refused,) = proxy.exchange(HEAD.replace(b"1.1", b"1.0") + CODING + b"\r\n" + CHUNKED + SMUGGLED)
    check_refusal(refused, 400, "bad_request")


NORMALISED = {
    "plain length": LENGTH + b"\r\n" + VALID,
    "leading zeros": b"Content-Length: 000%d  \r\n\r\n" % len(VALID) + VALID,
    "upper case": b"TRANSFER-ENCODING: CHUNKED\r\n\r\n" + CHUNKED,
    "underscore": LENGTH + b"Transfer_Encoding: chunked\r\nContent_Length: 3\r\n\r\n" + VALID,
    "trailer": CODING + b"\r\n" + CHUNKED[:-2] + b"Content-Length: 1\r\n\r\n",
    "extension": CODING + b"\r\n" + CHUNKED.replace(b"\r\n", b';a="b"\r\n', 1),
    "bare LF": (LENGTH + b"\r\n").replace(b"\r\n", b"\n") + VALID,
}


@pytest.mark.parametrize("rest", NORMALISED.values(), ids=NORMALISED)
def test_h04_an_odd_request_whose_end_is_clear_is_asked_once(proxy: Proxy, server: ServerProcess, rest: bytes) -> None:
    before = predictions(server, "letters")
    (reply,) = proxy.exchange(HEAD + rest + SMUGGLED)
    assert (reply.status, reply.json()["model"]) == (200, "letters")
    wait_for(lambda: predictions(server, "letters") > before, 10)
    assert predictions(server, "letters") == before + 1


def test_h06_pipelined_requests_are_answered_in_order_until_a_bad_one(proxy: Proxy) -> None:
    one = b"POST %s HTTP/1.1\r\nHost: x\r\nX-Request-Id: p%d\r\n%s\r\n%s"
    good = b"".join(one % (PREDICT.encode(), number, LENGTH, VALID) for number in range(20))
    *replies, refused = proxy.exchange(good + HEAD + REFUSED["two lengths"] + good)
    assert [reply.json()["request_id"] for reply in replies] == [f"p{number}" for number in range(20)]
    check_refusal(refused, 400, "bad_request")


_NAMES = [b"Content-Length", b"Transfer-Encoding", b"content-length", b"Transfer_Encoding", b"X"]
_COLONS = [b": ", b":", b" : ", b":\t", b"\t:", b":\x0b", b":\r\n ", b":\n", b":\r"]
_VALUES = [
    b"chunked",
    b"xchunked",
    b"identity",
    b"chunked, identity",
    b"0",
    b"5",
    b"+5",
    b"05",
    b"5, 5",
    b"0x5",
    b"",
    b"a",
]
_ENDS = [b"\r\n", b"\n", b" \r\n", b"\0\r\n", b"\r\r\n", b";q=1\r\n"]
_headers = st.lists(
    st.tuples(*map(st.sampled_from, (_NAMES, _COLONS, _VALUES, _ENDS))).map(b"".join), min_size=1, max_size=3
)
_bodies = st.sampled_from(
    [b"abcde", b"0\r\n\r\n", b"5\r\nabcde\r\n0\r\n\r\n", b"5;x\nabcde\n0\n\n", b"00\r\nX: y\r\n\r\n", b""]
)


def test_h04_however_lengths_and_codings_are_written(stage: Stage) -> None:
    """Whatever nginx makes of it: at most one request, framed by one length, and at most one answer."""
    recording, (upstream,) = stage()

    @given(headers=_headers, body=_bodies)
    @settings(max_examples=300, deadline=None, database=None)
    def holds(headers: list[bytes], body: bytes) -> None:
        upstream.received.clear()
        start = b"POST /outer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        replies = recording.exchange(start + b"".join(headers) + b"\r\n" + body + SMUGGLED)
        assert len(replies) == 1
        assert [request.path for request in upstream.received] == ["/outer"] * (replies[0].status == 200)
        for request in upstream.received:
            assert "transfer-encoding" not in request.headers
            assert request.body in (b"", b"abcde", (body + SMUGGLED)[:5])
        if replies[0].status != 200:
            check_refusal(replies[0], 400, "bad_request")

    holds()


# FAULTS H03: chunks


ONE_BYTE = b"1\r\n \r\n"
ABUSES = {
    "a million chunks of one byte": ([b"\r\n", *[ONE_BYTE * 10_000] * 100, b"0\r\n\r\n"], 400, "invalid_json"),
    "an extension of 1 MiB": ([b"\r\n1;", b"a" * MIB, b"\r\n{\r\n0\r\n\r\n"], 400, "invalid_json"),
    "an extension of 64 MiB": ([b"\r\n1;", *[b"a" * MIB] * 64, b"\r\n{\r\n0\r\n\r\n"], 400, "invalid_json"),
    "trailers of 64 MiB": (
        [b"\r\n1\r\n{\r\n0\r\n", *[b"X: " + b"a" * MIB + b"\r\n"] * 64, b"\r\n"],
        400,
        "invalid_json",
    ),
    "a chunk size of 1 MiB": ([b"\r\n", b"0" * MIB, b"1\r\n{\r\n0\r\n\r\n"], 400, "invalid_json"),
    "one huge chunk": ([b"\r\n40000000\r\n", *[b" " * MIB] * 17], 413, "body_too_large"),
    "chunks without end": ([b"\r\n", *[b"10000\r\n%s\r\n" % (b" " * 65536)] * 300], 413, "body_too_large"),
    "chunks of one byte without end": ([b"\r\n", *[ONE_BYTE * 100_000] * 180], 413, "body_too_large"),
}


@pytest.mark.parametrize(("pieces", "status", "code"), ABUSES.values(), ids=ABUSES)
def test_h03_abuse_of_chunks_ends_at_nginx(
    proxy: Proxy, server: ServerProcess, pieces: list[bytes], status: int, code: str
) -> None:
    """nginx refuses it, or passes on the few bytes that it held; neither process grows."""
    proxy.exchange(HEAD + CODING, *pieces)  # what the first one costs stays
    before = proxy.memory(), resident_bytes(server.api())
    replies = proxy.exchange(HEAD + CODING, *pieces)
    with contextlib.suppress(ValueError):  # none where the connection was reset while we were still sending
        (reply,) = replies
        assert (reply.status, reply.json()["code"]) == (status, code)
    assert proxy.memory() - before[0] < 4 * MIB
    assert resident_bytes(server.api()) - before[1] < 16 * MIB
