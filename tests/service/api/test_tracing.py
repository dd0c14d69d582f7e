"""Spans of requests, through the whole application in this process, as an exporter in memory has them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode

from service.api.oip.grpc_scopes import MODEL_INFER
from service.api.request_span import MOST_PARTS
from tests.processes import free_port
from tests.server_process import json_body
from tests.service.api.oip.grpc_asking import ask, channel, text_request
from tests.service.api.oip.infer_bodies import body_of, text_input
from tests.service.api.recorded_spans import (
    HELD_SECONDS,
    OPENAI,
    PARENT,
    SPAN,
    STAGES,
    TRACE,
    V1,
    V2,
    Recorded,
    Traced,
    described,
    times,
)
from tests.service.site import MAX_BATCH_ROWS, Site

DIALECTS: Sequence[tuple[str, bytes, str]] = [
    (V1, json_body(["1", "2"]), "/v1/models/{name}:predict"),
    ("/v1/models/letters/versions/1:predict", json_body(["1", "2"]), "/v1/models/{name}/versions/{number}:predict"),
    (V2, body_of(text_input("1", "2")), "/v2/models/{name}/infer"),
    (OPENAI, json.dumps({"model": "letters", "input": ["1", "2"]}).encode(), OPENAI),
    ("/embed", json.dumps({"inputs": ["1", "2"]}).encode(), "/embed"),
]


@pytest.mark.parametrize(("path", "body", "route"), DIALECTS, ids=[route for _, _, route in DIALECTS])
def test_a_request_is_a_part_of_its_callers_trace_and_has_the_stages_of_the_worker_below_it(
    traced: Traced, access_lines: Any, path: str, body: bytes, route: str
) -> None:
    async def story(site: Site, recorded: Recorded) -> None:
        reply = await site.request("POST", path, body, headers={**PARENT, "tracestate": "a=b", "x-request-id": "mine"})
        assert reply.status == 200
        span = recorded.request()
        assert span.name == f"POST {route}"
        assert described(span) == {
            "http.request.method": "POST",
            "http.route": route,
            "http.response.status_code": 200,
            "url.scheme": "http",
            "url.path": path,
            "graftwork.model": "letters",
            "graftwork.version": "1",
            "graftwork.rows": 2,
            "graftwork.request_id": "mine",
        }
        assert span.status.status_code is StatusCode.UNSET
        assert span.parent is not None
        assert span.parent.is_remote
        ids = f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}", f"{span.context.trace_id:032x}"
        assert ids == (TRACE, SPAN, TRACE)
        assert span.context.trace_state.to_header() == "a=b"
        stages = recorded.below(span)
        assert [stage.name for stage in stages] == STAGES
        assert all(times(before)[1] == times(after)[0] for before, after in pairwise(stages))
        (line,) = access_lines()
        assert (line["request_id"], line["trace_id"]) == ("mine", TRACE)
        assert line["span_id"] == f"{span.context.span_id:016x}"

    traced(story)


def test_a_call_over_grpc_too(traced: Traced, access_lines: Any) -> None:
    port = free_port()

    async def story(site: Site, recorded: Recorded) -> None:
        async with channel(port) as made:
            assert (await ask(made, text_request(b"1", b"2"), metadata=PARENT)).status == "OK"
            assert (await ask(made, text_request(b"1", model="nobody"))).status == "NOT_FOUND"
            await ask(made, b"", "/grpc.health.v1.Health/Check")
        found, refused = recorded.requests()
        assert found.name == refused.name == MODEL_INFER[1:]
        rpc = {"rpc.system.name": "grpc", "rpc.method": MODEL_INFER[1:]}
        line = access_lines()[0]
        assert described(found) == rpc | {
            "rpc.response.status_code": "OK",
            "graftwork.model": "letters",
            "graftwork.version": "1",
            "graftwork.rows": 2,
            "graftwork.request_id": line["request_id"],
        }
        assert found.parent is not None
        assert f"{found.parent.span_id:016x}" == SPAN
        assert line["trace_id"] == TRACE
        assert [stage.name for stage in recorded.below(found)] == STAGES
        assert refused.parent is None
        assert (
            described(refused).items()
            >= (rpc | {"rpc.response.status_code": "NOT_FOUND", "error.type": "model_not_found"}).items()
        )
        assert refused.status.status_code is StatusCode.UNSET

    traced(story, grpc_port=port)


def test_a_stage_takes_as_long_as_the_worker_says(traced: Traced) -> None:
    """Rows that wait while the device is held have a long queue; the batch that is held has a long computation."""

    async def story(site: Site, recorded: Recorded) -> None:
        site.engine.gate.clear()
        held = asyncio.create_task(site.predict("letters", ["1"]))
        while not site.engine.batches:
            await asyncio.sleep(0.001)
        waiting = asyncio.create_task(site.predict("letters", ["2"]))
        await site.until("graftwork_in_flight_rows", value=2)
        since = time.monotonic()
        while time.monotonic() < since + HELD_SECONDS:  # by the clock that the worker takes times with
            await asyncio.sleep(0.01)
        site.engine.gate.set()
        await asyncio.gather(held, waiting)
        longest = []
        for span in recorded.requests():
            stages = recorded.below(span)
            longest.append(max(stages, key=lambda stage: times(stage)[1] - times(stage)[0]).name)
            assert max(times(stage)[1] - times(stage)[0] for stage in stages) > 0.75e9 * HELD_SECONDS
        assert sorted(longest) == ["compute", "queue"]

    traced(story)


def test_without_a_parent_a_request_begins_a_trace(traced: Traced, access_lines: Any) -> None:
    async def story(site: Site, recorded: Recorded) -> None:
        for _ in range(2):
            await site.predict("letters", ["1"])
        first, second = recorded.requests()
        assert first.parent is second.parent is None
        assert first.context.trace_id != second.context.trace_id
        assert [line["trace_id"] for line in access_lines()] == [
            f"{span.context.trace_id:032x}" for span in (first, second)
        ]

    traced(story)


@pytest.mark.parametrize(("flags", "count"), [("01", 1), ("00", 0)])
def test_a_request_is_sampled_where_its_callers_part_is(
    traced: Traced, access_lines: Any, flags: str, count: int
) -> None:
    async def story(site: Site, recorded: Recorded) -> None:
        await site.predict("letters", ["1"], traceparent=f"00-{TRACE}-{SPAN}-{flags}")
        assert len(recorded.requests()) == count
        assert len(recorded.exporter.get_finished_spans()) == 4 * count
        assert access_lines()[0]["trace_id"] == TRACE

    traced(story)


def test_what_is_not_sampled_is_no_span(traced: Traced) -> None:
    async def story(site: Site, recorded: Recorded) -> None:
        assert (await site.predict("letters", ["1"])).status == 200
        assert not recorded.exporter.get_finished_spans()

    traced(story, sampler=ALWAYS_OFF)


def test_probes_are_no_spans_and_other_routes_are(traced: Traced) -> None:
    async def story(site: Site, recorded: Recorded) -> None:
        for path in ("/health/live", "/health/ready", "/health", "/v2/health/ready", "/metrics"):
            await site.get(path)
        assert not recorded.requests()
        await site.get("/v1/models/letters")
        await site.request("BREW", "/nowhere")
        await site.get("/v1/models/gw_01234567_thisissecret")
        found, lost, key = recorded.requests()
        assert found.name == "GET /v1/models/{id}"
        assert "http.route" not in described(lost)
        assert (lost.name, described(lost)["http.request.method"]) == ("HTTP", "_OTHER")
        assert described(lost)["error.type"] == "route_not_found"
        assert described(key)["url.path"] == "/v1/models/gw_01234567_..."

    traced(story)


def test_a_list_has_a_span_for_each_part(traced: Traced) -> None:
    async def story(site: Site, recorded: Recorded) -> None:
        count = MAX_BATCH_ROWS * 5
        body = json.dumps({"model": "letters", "input": [str(n) for n in range(count)]}).encode()
        assert (await site.request("POST", OPENAI, body)).status == 200
        span = recorded.request()
        parts = recorded.below(span)
        assert [part.name for part in parts] == ["part"] * 5
        assert described(span).items() >= {"graftwork.rows": count, "graftwork.parts": 5}.items()
        for part in parts:
            seconds = (times(part)[1] - times(part)[0]) / 1e9
            assert described(part)["graftwork.rows"] == MAX_BATCH_ROWS
            for stage in STAGES:
                assert 0 <= described(part)[f"graftwork.{stage}_seconds"] <= seconds

    traced(story, max_batch_rows=MAX_BATCH_ROWS)


def test_of_a_long_list_the_first_parts_have_spans(traced: Traced) -> None:
    async def story(site: Site, recorded: Recorded) -> None:
        count = MAX_BATCH_ROWS * (MOST_PARTS + 3)
        body = json.dumps({"model": "letters", "input": [str(n) for n in range(count)]}).encode()
        assert (await site.request("POST", OPENAI, body)).status == 200
        span = recorded.request()
        assert len(recorded.below(span)) == MOST_PARTS
        assert described(span).items() >= {"graftwork.rows": count, "graftwork.parts": MOST_PARTS + 3}.items()

    traced(story, max_batch_rows=MAX_BATCH_ROWS)
