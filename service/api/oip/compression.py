"""Bodies that are compressed: gzip, and deflate, which is zlib's format."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping

from models.errors import BodyTooLarge, InvalidEncoding, UnsupportedMediaType
from service.api.admission import Ticket

_WINDOW_BITS = {"gzip": 31, "deflate": 15}
WORTHWHILE_BYTES = 1024  # of an answer: a smaller one fits into a packet as it is
_AT_ONCE_BYTES = 64 << 10  # what takes longer is done in a thread
_LEVEL = 1
_PIECE_IN, _PIECE_OUT = 1 << 20, 4 << 20  # at a time: what is made is counted before more of it is made
# A body of more than so many bytes is no bomb if it was sent as a hundredth of that; zlib can make a thousandth of zeros.
_FREE_BYTES, _MOST_TIMES = 8 << 20, 100


async def decompress(body: bytes, encoding: str, limit: int, ticket: Ticket) -> bytes:
    """The body of a request as it was before.

    Args:
        encoding: the value of ``Content-Encoding``.
        limit: bytes that it may have then.
        ticket: of the request, which holds the bytes of the body already.

    Raises:
        UnsupportedMediaType: another encoding.
        BodyTooLarge: it had more bytes; they are not all made.
        InvalidEncoding: it is cut, damaged, or something comes after it.
        Overloaded: there is no room for it now.
    """
    bits = _WINDOW_BITS.get(encoding)
    if bits is None:
        raise UnsupportedMediaType("a body in this encoding is not accepted; send it as it is, or in gzip or deflate")
    limit = min(limit, max(_FREE_BYTES, _MOST_TIMES * len(body)))
    decompressor, pieces, size, read = zlib.decompressobj(bits), [], 0, 0
    for start in range(0, len(body), _PIECE_IN):
        if decompressor.eof:
            break
        packed = body[start : start + _PIECE_IN]
        read += len(packed)
        while packed and not decompressor.eof:
            try:
                piece = await asyncio.to_thread(decompressor.decompress, packed, _PIECE_OUT)
            except zlib.error:
                raise InvalidEncoding(f"the body is no {encoding}") from None
            packed = decompressor.unconsumed_tail
            size += len(piece)
            if size > limit:
                raise BodyTooLarge(f"the body has more than {limit:,} bytes once it is decompressed; send it as it is")
            ticket.take_bytes(len(piece))
            pieces.append(piece)
    plain = b"".join([*pieces, decompressor.flush()])
    if not decompressor.eof or decompressor.unused_data or read < len(body):
        raise InvalidEncoding(f"the body is no whole {encoding} stream and nothing else")
    return plain


def accepted_encoding(header: str) -> str | None:
    """The encoding for an answer, of those in ``Accept-Encoding``; None for none."""
    wanted: Mapping[str, str] = dict(_weighted(part) for part in header.lower().split(","))
    return next((name for name in _WINDOW_BITS if wanted.get(name, "0") not in ("0", "0.0", "0.00", "0.000")), None)


def _weighted(part: str) -> tuple[str, str]:
    name, _, weight = part.partition(";")
    return name.strip(), weight.strip().removeprefix("q=") or "1"


async def compress(body: bytes, encoding: str) -> bytes:
    """An answer in an encoding."""
    if len(body) <= _AT_ONCE_BYTES:
        return _compress(body, encoding)
    return await asyncio.to_thread(_compress, body, encoding)


def _compress(body: bytes, encoding: str) -> bytes:
    return zlib.compress(body, _LEVEL, _WINDOW_BITS[encoding])
