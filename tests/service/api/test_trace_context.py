from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.api.trace_context import TraceContext, trace_context

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def parsed(*values: str, state: tuple[str, ...] = ()) -> TraceContext | None:
    headers = [(b"traceparent", value.encode("latin-1")) for value in values]
    return trace_context([(b"host", b"x"), *headers, *((b"tracestate", each.encode("latin-1")) for each in state)])


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        (f"00-{TRACE}-{SPAN}-01", 1),
        (f"00-{TRACE}-{SPAN}-00", 0),
        (f"00-{TRACE}-{SPAN}-ff", 255),
        (f" 00-{TRACE}-{SPAN}-01\t", 1),
        (f"01-{TRACE}-{SPAN}-01", 1),
        (f"cc-{TRACE}-{SPAN}-01-what the future says", 1),
    ],
)
def test_a_caller_says_which_trace_its_request_is_a_part_of(value: str, flags: int) -> None:
    assert parsed(value) == TraceContext(trace_id=TRACE, span_id=SPAN, flags=flags, state="")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{TRACE}-{SPAN}-01-more",
        f"01-{TRACE}-{SPAN}-01more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}0-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0x",
        f"00-{TRACE}-{SPAN}-01\r\nx: y",
        f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01",
    ],
)
def test_what_is_malformed_is_ignored_whole(value: str) -> None:
    assert parsed(value, state=("a=b",)) is None


def test_who_says_it_twice_says_nothing() -> None:
    assert parsed(f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01") is None
    assert parsed() is None


@pytest.mark.parametrize(
    ("state", "kept"),
    [((), ""), (("a=b", "c=d"), "a=b,c=d"), (("x=" + "y" * 510,), "x=" + "y" * 510), (("x=" + "y" * 511,), "")],
)
def test_the_state_of_tracing_systems_is_kept_where_it_is_not_too_long(state: tuple[str, ...], kept: str) -> None:
    found = parsed(f"00-{TRACE}-{SPAN}-01", state=state)
    assert found is not None
    assert found.state == kept


LIKELY = st.from_regex(re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?"), fullmatch=True)
HEADER = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"))


@given(HEADER | LIKELY.filter(lambda text: text.isascii()))
@example(f"00-{TRACE}-{SPAN}-01")
def test_it_is_read_as_opentelemetry_reads_it(value: str) -> None:
    """But for what this writes after a version that is not yet there, which it takes as it comes."""
    found = parsed(value)
    context = TraceContextTextMapPropagator().extract({"traceparent": value})
    spans = [getattr(each, "get_span_context", None) for each in context.values()]
    if found is None:
        assert not spans or value[55:56] not in ("", "-")
    else:
        (span,) = (each() for each in spans if each is not None)
        assert (found.trace_id, found.span_id) == (f"{span.trace_id:032x}", f"{span.span_id:016x}")
