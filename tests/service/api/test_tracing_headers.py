"""What callers say of their traces, and what the log says of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.service.api.recorded_spans import (
    PARENT,
    STAGES,
    TRACE,
    Recorded,
    Traced,
)
from tests.service.site import Play, Site

TEXT = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"))
PARENTS = TEXT | st.from_regex(r"(00|01|ff)-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", fullmatch=True)
MEMBER = st.from_regex(r"[a-z][a-z0-9@]{0,9}=[ -+\--<>-~]{0,9}", fullmatch=True)
STATES = TEXT | st.lists(MEMBER, max_size=40).map(",".join)


def test_no_header_breaks_a_request(traced: Traced) -> None:
    async def story(site: Site, recorded: Recorded) -> None:
        examples: list[tuple[str, str]] = []

        @settings(max_examples=200, suppress_health_check=list(HealthCheck))
        @given(PARENTS, STATES)
        def collect(parent: str, state: str) -> None:
            examples.append((parent, state))

        collect()
        for parent, state in examples:
            recorded.exporter.clear()
            assert (await site.predict("letters", ["1"], traceparent=parent, tracestate=state)).status == 200
            if recorded.requests():  # its caller's part may not be sampled
                assert [stage.name for stage in recorded.below(recorded.request())] == STAGES

    traced(story)


def test_every_line_about_a_request_says_which_it_is_also_those_of_a_worker(
    traced: Traced, access_lines: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(site: Site, recorded: Recorded) -> None:
        for text in ("?", "-1"):  # which breaks its preparation, and its computation
            caplog.clear()
            await site.predict("letters", [text], **PARENT, **{"x-request-id": "mine"})
            span = recorded.requests()[-1]
            ids = {"request_id": "mine", "trace_id": TRACE, "span_id": f"{span.context.span_id:016x}"}
            failures = [record for record in caplog.records if record.exc_info]
            assert [record.message for record in failures] == [
                "preparing a row failed" if text == "?" else "computing a row failed"
            ]
            assert failures[0].fields == ids
            assert access_lines()[0].items() >= ids.items()

    traced(story)


def test_without_traces_the_log_names_the_callers_trace(play: Play, access_lines: Any) -> None:
    async def story(site: Site) -> None:
        await site.predict("letters", ["1"], **PARENT)
        await site.predict("letters", ["1"])
        first, second = access_lines()
        assert first["trace_id"] == TRACE
        assert not {"trace_id", "span_id"} & set(second)
        assert "span_id" not in first

    play(story)
