"""The trace that a caller says its request is a part of: the W3C's ``traceparent`` and ``tracestate``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

HEADERS = (b"traceparent", b"tracestate")
MOST_STATE = 512  # bytes of ``tracestate``, which the W3C wants to be passed on; of a longer one nothing is

# A version after 00 may say more behind a further dash; ff is none, and neither are ids of zeros.
_TRACEPARENT = re.compile(
    rb"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})(?P<span>[0-9a-f]{16})"
    rb"-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceContext:
    """Of a request.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: what the caller is doing meanwhile, 16 hexadecimal digits.
        flags: the lowest bit says that the caller's part is recorded.
        state: what tracing systems have noted, as it came.
    """

    trace_id: str
    span_id: str
    flags: int
    state: str


def trace_context(headers: Iterable[tuple[bytes, bytes]]) -> TraceContext | None:
    """What the headers say; nothing where they are malformed, as the W3C has it, or say it twice.

    Args:
        headers: with names in lower case.
    """
    parents = [value for name, value in headers if name == b"traceparent"]
    match = _TRACEPARENT.fullmatch(parents[0].strip(b" \t")) if len(parents) == 1 else None
    if match is None or (match["version"] == b"00" and match["more"] is not None):
        return None
    state = b",".join(value for name, value in headers if name == b"tracestate")
    return TraceContext(
        trace_id=match["trace"].decode(),
        span_id=match["span"].decode(),
        flags=int(match["flags"], 16),
        state=state.decode("latin-1") if len(state) <= MOST_STATE else "",
    )
