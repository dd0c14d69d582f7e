"""Spans of requests that are refused, late, or nobody waits for any more."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.trace import StatusCode

from tests.server_process import json_body
from tests.service.api.recorded_spans import (
    V1,
    Recorded,
    Traced,
    described,
)
from tests.service.site import Client, Site


def test_what_is_wrong_with_a_request_is_no_error_of_ours(traced: Traced) -> None:
    async def story(site: Site, recorded: Recorded) -> None:
        await site.predict("nobody", ["1"])
        await site.predict("letters", ["blank"])
        await site.request("POST", V1, b"{")
        unknown, empty, broken = recorded.requests()
        assert [described(span)["error.type"] for span in (unknown, empty, broken)] == [
            "model_not_found",
            "empty_text",
            "invalid_json",
        ]
        assert {span.status.status_code for span in (unknown, empty, broken)} == {StatusCode.UNSET}
        assert "graftwork.model" not in described(unknown)
        assert described(unknown)["http.route"] == "/v1/models/{name}:predict"
        assert (described(empty)["graftwork.rows"], recorded.below(empty)) == (1, [])

    traced(story)


def test_what_is_shed_or_late_or_fails_is_an_error(traced: Traced) -> None:
    async def story(site: Site, recorded: Recorded) -> None:
        site.engine.gate.clear()
        late = asyncio.create_task(site.predict("letters", ["1"], **{"x-request-timeout": "0.2"}))
        await site.until("graftwork_in_flight_rows", value=1)
        assert (await site.predict("letters", ["1"])).status == 503
        assert (await late).status == 504
        site.engine.gate.set()
        assert (await site.predict("letters", ["-1"])).status == 500
        shed, timed_out, failed = recorded.requests()
        for span, code, status in [
            (shed, "overloaded", 503),
            (timed_out, "deadline_exceeded", 504),
            (failed, "internal", 500),
        ]:
            assert described(span)["error.type"] == code
            assert described(span)["http.response.status_code"] == status
            assert span.status.status_code is StatusCode.ERROR
        assert "graftwork.rows" not in described(shed)
        assert described(timed_out)["graftwork.rows"] == 1

    traced(story, max_rows_in_flight=1)


def test_what_is_shed_is_an_error_whatever_status_its_dialect_has(traced: Traced) -> None:
    async def story(site: Site, recorded: Recorded) -> None:
        reply = await site.request("POST", "/embed", b'{"inputs": "1"}' + b" " * 100)
        span = recorded.request()
        assert reply.status == described(span)["http.response.status_code"] == 429
        assert described(span)["error.type"] == "overloaded"
        assert span.status.status_code is StatusCode.ERROR

    traced(story, max_bytes_in_flight=100)


def test_a_client_that_hangs_up_is_an_error_without_a_status(traced: Traced) -> None:
    async def story(site: Site, recorded: Recorded) -> None:
        site.engine.gate.clear()
        client = Client()
        asked = asyncio.create_task(site.request("POST", V1, json_body(["1"]), client=client))
        await site.until("graftwork_in_flight_rows", value=1)
        client.hang_up()
        assert (await asked).status == 0
        span = recorded.request()
        assert described(span)["error.type"] == "client_disconnected"
        assert "http.response.status_code" not in described(span)
        assert span.status.status_code is StatusCode.ERROR

    traced(story)


def test_a_request_that_outlasts_the_time_to_drain_is_an_error(traced: Traced) -> None:
    async def story(site: Site, recorded: Recorded) -> None:
        site.engine.gate.clear()
        asked = asyncio.create_task(site.predict("letters", ["1"]))
        await site.until("graftwork_in_flight_rows", value=1)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        span = recorded.request()
        assert described(span)["error.type"] == "internal"
        assert span.status.status_code is StatusCode.ERROR

    traced(story)
