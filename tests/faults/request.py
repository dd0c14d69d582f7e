"""What the load generator sends: requests that know which answer they must get."""

from __future__ import annotations

import os
import random
import string
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple
from uuid import uuid4

import orjson

MODEL = "echo"


class Request(NamedTuple):
    """One HTTP request in bytes, and what its answer is checked against.

    Attributes:
        id: the ``X-Request-Id`` that the answer must carry back; empty where it is not checked.
        data: head and body, as they are sent.
        labels: of the predictions of a 200, in order; None where they are not checked.
        hang_up_after: seconds from sending to closing the connection without an answer; 0 is at once, None is never.
    """

    id: bytes
    data: bytes
    labels: list[str] | None
    hang_up_after: float | None = None


Make = Callable[[int], Request]
"""Gives the request with a number; the numbers of one run count up from 0."""


def request(
    texts: Sequence[str],
    *,
    model: str = MODEL,
    headers: Mapping[str, str] | None = None,
    hang_up_after: float | None = None,
) -> Request:
    """A request for these texts, with an id of its own."""
    request_id = uuid4().hex.encode()
    body = orjson.dumps({"instances": list(texts)})
    head = _head(f"/v1/models/{model}:predict", headers or {}) % (request_id, len(body))
    return Request(request_id, head + body, [sha256(text.encode()).hexdigest() for text in texts], hang_up_after)


class EchoRequests:
    """Requests for texts that nobody else asks about, so that an answer to anything else is seen.

    A text is a filler and then its request's id and its row, all ASCII. The filler's digest is computed once and continued
    with the rest, so that long texts cost the generator little.

    Args:
        rows: texts per request.
        size: bytes per text.
        start: what each text starts with; the words that do harm to an echo go here.
        model: whom they are for.
        path: where another server than ours takes them, in place of the model's path.
        request_timeout: seconds, sent as ``X-Request-Timeout``.
        headers: more of them.
        hang_up_after: as in ``Request``.
        check_id: False for a server that does not carry ``X-Request-Id`` back; its labels are still checked.
        seed: of the filler.
    """

    def __init__(
        self,
        *,
        rows: int = 1,
        size: int = 100,
        start: str = "text ",
        model: str = MODEL,
        path: str | None = None,
        request_timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        hang_up_after: float | None = None,
        check_id: bool = True,
        seed: int = 0,
    ) -> None:
        self._prefix = os.urandom(4).hex().encode()  # not seeded: two generators must never send the same text
        least = len(start) + len(self._prefix) + 8 + 4
        if size < least:
            raise ValueError(f"a text that is like no other has at least {least} bytes, not {size}")
        filler = random.Random(seed).choices(string.ascii_lowercase + "     ", k=size - least)
        self._filler = (start + "".join(filler)).encode("ascii")
        self._filler_digest = sha256(self._filler)
        self._rows = [b"%04x" % row for row in range(rows)]
        extra = dict(headers or {})
        if request_timeout is not None:
            extra["X-Request-Timeout"] = f"{request_timeout:g}"
        self._head = _head(path or f"/v1/models/{model}:predict", extra)
        self._hang_up_after = hang_up_after
        self._check_id = check_id

    def __call__(self, number: int) -> Request:
        request_id = b"%s%08x" % (self._prefix, number)
        texts, labels = [], []
        for row in self._rows:
            tag = request_id + row
            digest = self._filler_digest.copy()
            digest.update(tag)
            texts.append(self._filler + tag)
            labels.append(digest.hexdigest())
        body = b'{"instances":["%s"]}' % b'","'.join(texts)
        data = self._head % (request_id, len(body)) + body
        return Request(request_id if self._check_id else b"", data, labels, self._hang_up_after)


def _head(path: str, headers: Mapping[str, str]) -> bytes:
    """The head of a request, to be filled in with the id and the length of the body."""
    extra = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return (
        f"POST {_literal(path)} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{_literal(extra)}"
        "X-Request-Id: %s\r\nContent-Length: %d\r\n\r\n"
    ).encode("latin-1")


def _literal(text: str) -> str:
    return text.replace("%", "%%")
