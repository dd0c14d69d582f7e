"""A body as it comes in: how far it is read, and what it takes of the memory for bodies."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect

from models.errors import BodyTooLarge, Overloaded, UnsupportedMediaType
from service.api.admission import Admission
from service.api.body import read_body
from service.api.metrics import Metrics


def read_chunks(
    chunks: Iterable[bytes],
    headers: Mapping[str, str],
    limit: int,
    *,
    seen: list[bytes] | None = None,
    hangs_up: bool = False,
    admission: Admission | None = None,
) -> bytes:
    """The body that is read from a request; whatever happens, nothing of it stays in flight."""
    waiting = list(chunks)
    admission = admission or Admission(max_rows=1, max_bytes=1 << 30, workers=1, metrics=Metrics("0"))

    async def receive() -> dict[str, Any]:
        if not waiting:
            return {"type": "http.disconnect"}
        chunk = waiting.pop(0)
        if seen is not None:
            seen.append(chunk)
        return {"type": "http.request", "body": chunk, "more_body": hangs_up or bool(waiting)}

    with admission.ticket() as ticket:
        try:
            body = asyncio.run(read_body(receive, headers, limit, ticket))
            assert admission.bytes == len(body)
            return body
        finally:
            assert admission.bytes <= sum(map(len, seen or chunks))


@given(st.lists(st.binary(), min_size=1))
def test_a_body_is_put_together_from_its_chunks(chunks: list[bytes]) -> None:
    body = b"".join(chunks)
    assert read_chunks(chunks, {}, len(body)) == body


def test_a_body_that_is_declared_too_large_is_not_read() -> None:
    seen: list[bytes] = []
    with pytest.raises(BodyTooLarge, match="101 bytes"):
        read_chunks([b"x" * 101], {"content-length": "101"}, 100, seen=seen)
    assert seen == []


def test_a_chunked_body_is_read_no_further_than_its_limit() -> None:
    seen: list[bytes] = []
    with pytest.raises(BodyTooLarge):
        read_chunks([b"x" * 40] * 1000, {"transfer-encoding": "chunked"}, 100, seen=seen)
    assert len(seen) == 3


def test_a_client_that_hangs_up_in_the_middle_of_its_body_sent_no_request() -> None:
    with pytest.raises(ClientDisconnect):
        read_chunks([b"ab", b"c"], {}, 100, hangs_up=True)


def test_a_body_that_there_is_no_room_for_is_read_no_further() -> None:
    seen: list[bytes] = []
    admission = Admission(max_rows=1, max_bytes=100, workers=1, metrics=Metrics("0"))
    with pytest.raises(Overloaded):
        read_chunks([b"x" * 40] * 1000, {}, 1 << 20, seen=seen, admission=admission)
    assert len(seen) == 3
    assert admission.bytes == 0
    assert read_chunks([b"x" * 100], {}, 1 << 20, admission=admission) == b"x" * 100


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, identity", "x"])
def test_compressed_bodies_are_refused(encoding: str) -> None:
    with pytest.raises(UnsupportedMediaType):
        read_chunks([os.urandom(4)], {"content-encoding": encoding}, 100)


@pytest.mark.parametrize("encoding", ["identity", "Identity ", ""])
def test_identity_is_no_compression(encoding: str) -> None:
    assert read_chunks([b"a"], {"content-encoding": encoding}, 100) == b"a"
