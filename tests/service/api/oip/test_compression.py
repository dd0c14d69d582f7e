from __future__ import annotations

import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import BodyTooLarge, InvalidEncoding, Overloaded
from service.api.admission import Admission
from service.api.metrics import Metrics
from service.api.oip.compression import accepted_encoding, compress, decompress
from tests.service.api.oip.infer_bodies import refusal

MEBI = 1 << 20
PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}


def unpacked(body: bytes, encoding: str = "deflate", limit: int = 64 * MEBI, *, room: int = 256 * MEBI) -> bytes:
    admission = Admission(max_rows=1, max_bytes=room, workers=1, metrics=Metrics("0"))

    async def run() -> bytes:
        with admission.ticket() as ticket:
            plain = await decompress(body, encoding, limit, ticket)
            assert admission.bytes == len(plain)
            return plain

    return asyncio.run(run())


@pytest.mark.parametrize("encoding", PACK)
@pytest.mark.parametrize("plain", [b"", b"a", bytes(range(256)) * 20_000, b"ab" * 4 * MEBI, bytes(6 * MEBI)])
def test_a_body_is_as_it_was_before(encoding: str, plain: bytes) -> None:
    assert unpacked(PACK[encoding](plain), encoding) == plain


def test_a_body_that_does_not_get_smaller_comes_in_pieces() -> None:
    import random

    plain = random.Random(0).randbytes(3 * MEBI)
    assert unpacked(zlib.compress(plain)) == plain
    with pytest.raises(InvalidEncoding):
        unpacked(zlib.compress(plain) + b"x")
    with pytest.raises(InvalidEncoding):  # in a piece of its own
        unpacked(zlib.compress(bytes(1000)) + bytes(2 * MEBI))


def test_nothing_may_follow_a_stream_that_ends_where_a_piece_does() -> None:
    for size in (MEBI - 1, MEBI, MEBI + 1):
        stream = zlib.compress(bytes(size), level=0)
        cut = bytes(size - (len(stream) - MEBI))
        exact = zlib.compress(cut, level=0)
        assert unpacked(exact) == cut
        with pytest.raises(InvalidEncoding):
            unpacked(exact + b"x" * 7000)


@given(body=st.binary(), encoding=st.sampled_from([*PACK, "br", ""]))
def test_any_body_is_read_or_refused(body: bytes, encoding: str) -> None:
    error = refusal(lambda: unpacked(body, encoding))
    assert error is None or error.status in (400, 413, 415)


@given(plain=st.binary(max_size=2000), encoding=st.sampled_from(list(PACK)))
def test_any_answer_survives(plain: bytes, encoding: str) -> None:
    assert unpacked(asyncio.run(compress(plain, encoding)), encoding) == plain


def test_a_large_answer_survives() -> None:
    plain = bytes(range(256)) * 4096
    assert gzip.decompress(asyncio.run(compress(plain, "gzip"))) == plain


@pytest.mark.parametrize(("size", "limit"), [(101, 100), (16 * MEBI, 2 * MEBI), (9 * MEBI, 64 * MEBI)])
def test_bombs_are_not_unpacked(size: int, limit: int) -> None:
    with pytest.raises(BodyTooLarge):
        unpacked(zlib.compress(bytes(size)), limit=limit)


def test_a_bomb_takes_little_memory() -> None:
    bomb = zlib.compress(bytes(256 * MEBI))
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLarge):
            unpacked(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(bomb) * 101 + 20 * MEBI
    assert peak < 60 * MEBI


def test_what_there_is_no_room_for_is_not_unpacked() -> None:
    with pytest.raises(Overloaded):
        unpacked(zlib.compress(bytes(6 * MEBI)), room=5 * MEBI)


@pytest.mark.parametrize(
    ("header", "encoding"),
    [
        ("", None),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("deflate, gzip", "gzip"),
        ("br, GZIP;q=0.5", "gzip"),
        ("gzip;q=0, deflate;q=0.1", "deflate"),
        ("gzip; q=0.000", None),
        ("identity", None),
        ("*", None),
        (",;,=;q=", None),
    ],
)
def test_the_encoding_of_an_answer(header: str, encoding: str | None) -> None:
    assert accepted_encoding(header) == encoding


@given(st.text())
def test_any_header_says_an_encoding_or_none(header: str) -> None:
    assert accepted_encoding(header) in (None, *PACK)
