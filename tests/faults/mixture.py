"""Requests of every kind that a server meets: good ones, bad ones, and clients that go."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tests.faults.request import EchoRequests, Request

HEAD = b"POST /v1/models/echo:predict HTTP/1.1\r\nHost: here\r\nContent-Type: %b\r\nContent-Length: %d\r\n"


def post(body: bytes, *headers: bytes, media_type: bytes = b"application/json", length: int | None = None) -> bytes:
    """A request to the echo, as bytes."""
    head = HEAD % (media_type, len(body) if length is None else length)
    return head + b"".join(header + b"\r\n" for header in headers) + b"\r\n" + body


def form(body: bytes) -> bytes:
    """A multipart request to the echo, as bytes."""
    return post(body, media_type=b"multipart/form-data; boundary=limit")


def refused(data: bytes) -> Request:
    """A request whose answer is an error."""
    return Request(b"", data, None)


# What is wrong with a request, as bytes, and the status of its answer.
MALFORMED: dict[str, tuple[bytes, int]] = {
    "an empty body": (post(b""), 400),
    "no JSON": (post(b'{"instances": ["a"'), 400),
    "JSON too deep": (post(b"[" * 2_000), 400),
    "no UTF-8": (post(b'{"instances": ["\xff\xfe"]}'), 400),
    "a lone surrogate": (post(rb'{"instances": ["\ud800"]}'), 400),
    "no number": (post(b'{"instances": [NaN]}'), 400),
    "instances of another type": (post(b'{"instances": [1, null, {}]}'), 422),
    "too many instances": (post(b'{"instances": [' + b'"a",' * 64 + b'"a"]}'), 413),
    "much that is no JSON": (post(b'{"instances": ["' + b"x" * 300_000), 400),
    "a bad text that is long": (post(b'{"instances": ["bad' + b"x" * 300_000 + b'"]}'), 422),
    "a bad text in a list": (post(b'{"instances": ["a", "b", "bad", "c"]}'), 422),
    "a form of delimiters": (form(b"\r\n--limit" * 10_000), 413),
    "a form with endless headers": (form(b"\r\n--limit\r\n" + b"a: b\r\n" * 50_000 + b"\r\na\r\n--limit--"), 422),
    "a form that is cut": (form(b"\r\n--limit\r\n\r\na"), 422),
    "a compressed body": (post(b"\x1f\x8b" + bytes(100), b"Content-Encoding: gzip"), 415),
    "another media type": (post(b"<a/>", media_type=b"application/xml"), 415),
    "a body that is too large": (post(b"", length=1 << 30), 413),
    "no time": (post(b'{"instances": ["a"]}', b"X-Request-Timeout: soon"), 400),
    "no such model": (post(b'{"instances": ["a"]}').replace(b"/echo:", b"/nobody:"), 404),
    "no such route": (b"GET /etc/passwd HTTP/1.1\r\nHost: here\r\n\r\n", 404),
    "the wrong method": (b"DELETE /v1/models/echo HTTP/1.1\r\nHost: here\r\n\r\n", 405),
    "two lengths": (post(b"{}", b"Content-Length: 3"), 400),
    "a length of thousands of digits": (post(b"{}").replace(b"Length: 2", b"Length: " + b"0" * 5_000 + b"2"), 400),
    "a length and chunks": (post(b"0\r\n\r\n", b"Transfer-Encoding: chunked"), 400),
    "no host": (b"GET /health/live HTTP/1.1\r\n\r\n", 400),
    "a chunk of no size": (
        b"POST /v1/models/echo:predict HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        400,
    ),
    "a long URL": (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: here\r\n\r\n", 414),
    "large headers": (b"GET / HTTP/1.1\r\nHost: here\r\nX-Large: " + b"a" * 40_000 + b"\r\n\r\n", 431),
    "many headers": (b"GET / HTTP/1.1\r\nHost: here\r\n" + b"X-More: a\r\n" * 101 + b"\r\n", 431),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), 400),
}


class Mixture:
    """Gives requests of all kinds, in a fixed order without a pattern.

    Of a hundred, 54 are good and small, 8 are lists, 2 are large texts, 10 are clients that hang up, 6 have next to no time,
    2 run into a bug, and 18 are malformed, of every kind in turn.

    Args:
        seed: of the order.
    """

    def __init__(self, *, seed: int = 0) -> None:
        good = EchoRequests()
        lists = EchoRequests(rows=16)
        large = EchoRequests(size=300_000)
        gone = EchoRequests(hang_up_after=0)
        going = EchoRequests(rows=4, hang_up_after=0.002)
        hasty = EchoRequests(rows=4, request_timeout=0.001)
        bug = EchoRequests(start="bug ")
        malformed = [refused(data) for data, _ in MALFORMED.values()]
        kinds = [good] * 54 + [lists] * 8 + [large] * 2 + [gone] * 5 + [going] * 5 + [hasty] * 6 + [bug] * 2
        self._kinds: Sequence[EchoRequests | None] = [*kinds, *[None] * 18]
        self._malformed = malformed
        self._random = random.Random(seed)

    def __call__(self, number: int) -> Request:
        make = self._random.choice(self._kinds)
        return self._malformed[number % len(self._malformed)] if make is None else make(number)
