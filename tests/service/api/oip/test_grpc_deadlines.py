"""Deadlines over gRPC, and clients that take their calls back: what nobody waits for is not computed."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from typing import Any

import pytest

from service.api.oip.grpc_scopes import MODEL_INFER
from tests.service.api.oip.conftest import Called
from tests.service.api.oip.grpc_asking import ask, text_request
from tests.service.site import Site


async def hold_the_device(site: Site) -> asyncio.Task[Any]:
    """Closes the gate behind one request, over HTTP."""
    site.engine.gate.clear()
    first = asyncio.create_task(site.predict("letters", ["0"]))
    while not site.engine.batches:
        await asyncio.sleep(0.001)
    return first


async def check_that_nothing_leaks(site: Site) -> None:
    for gauge in ("requests", "rows", "bytes"):
        await site.until(f"graftwork_in_flight_{gauge}", value=0)
    received = sum((await site.metric("graftwork_received_requests_total")).values())
    assert received == sum((await site.outcomes()).values())


async def check_that_only_the_first_was_computed(site: Site, first: asyncio.Task[Any], *, dropped: int) -> None:
    await site.until("graftwork_in_flight_rows", value=1)
    site.engine.gate.set()
    assert (await first).status == (await site.predict("letters", ["3"])).status == 200
    assert site.engine.batches == [[0], [3]]
    await site.until("graftwork_dropped_rows_total", value=dropped)
    await check_that_nothing_leaks(site)


def test_the_servers_own_limit_ends_a_call(called: Called) -> None:
    async def story(site: Site, made: Any) -> None:
        site.engine.gate.clear()
        answered = await ask(made, text_request(b"1"), timeout=None)
        assert (answered.status, answered.code) == ("DEADLINE_EXCEEDED", "deadline_exceeded")
        assert (await site.outcomes()) == {("letters", "timeout", "1"): 1}
        site.engine.gate.set()
        await check_that_nothing_leaks(site)

    called(story, request_timeout_seconds=0.1)


@pytest.mark.parametrize("kind", ["int64_param", "uint64_param"])
def test_a_request_may_wait_for_less_than_its_call(called: Called, kind: str) -> None:
    async def story(site: Site, made: Any) -> None:
        first = await hold_the_device(site)
        request = text_request(b"1")
        setattr(request.parameters["timeout"], kind, 100_000)
        started = time.monotonic()
        answered = await ask(made, request)
        assert (answered.status, answered.code) == ("DEADLINE_EXCEEDED", "deadline_exceeded")
        assert 0.1 <= time.monotonic() - started < 0.1 + 0.25
        await check_that_only_the_first_was_computed(site, first, dropped=1)

    called(story)


def test_the_rows_of_a_call_past_its_own_deadline_are_not_computed(called: Called) -> None:
    async def story(site: Site, made: Any) -> None:
        first = await hold_the_device(site)
        answered = await ask(made, text_request(b"1", b"2"), timeout=0.2)
        assert answered.status == "DEADLINE_EXCEEDED"
        await check_that_only_the_first_was_computed(site, first, dropped=2)
        assert (await site.outcomes()) == {("letters", "ok", "1"): 2, ("letters", "timeout", "1"): 1}

    called(story)


def test_the_rows_of_a_call_that_is_taken_back_are_not_computed(called: Called) -> None:
    async def story(site: Site, made: Any) -> None:
        first = await hold_the_device(site)
        calls = [made.unary_unary(MODEL_INFER)(text_request(b"1", b"2").SerializeToString()) for _ in range(3)]
        await site.until("graftwork_in_flight_rows", value=7)
        for call in calls:
            call.cancel()
        await check_that_only_the_first_was_computed(site, first, dropped=6)
        assert (await site.outcomes()) == {("letters", "ok", "1"): 2, ("letters", "disconnected", "1"): 3}

    called(story)


def test_the_rows_of_a_client_that_is_gone_are_not_computed(called: Called) -> None:
    async def story(site: Site, made: Any) -> None:
        first = await hold_the_device(site)
        call = made.unary_unary(MODEL_INFER)(text_request(b"1", b"2").SerializeToString())
        await site.until("graftwork_in_flight_rows", value=3)
        await made.close()
        with pytest.raises(asyncio.CancelledError):
            await call
        await check_that_only_the_first_was_computed(site, first, dropped=2)

    called(story)


def test_a_message_that_does_not_come_is_given_up(called: Called) -> None:
    async def story(site: Site, made: Any) -> None:
        limits = site.application._settings.connections
        assert limits.body_timeout_seconds == 0.2
        call = made.stream_unary(MODEL_INFER)()  # as a unary call whose message is still on its way
        await call.wait_for_connection()
        assert (await call.code()).name == "DEADLINE_EXCEEDED"
        assert (await call.details()).startswith("request_timeout: ")
        assert (await site.outcomes()) == {("_unknown", "client_error", "_unknown"): 1}
        await check_that_nothing_leaks(site)

        call = made.stream_unary(MODEL_INFER)()
        await call.done_writing()
        assert (await call.code()).name == "INVALID_ARGUMENT"
        assert (await call.details()).startswith("invalid_message: ")

    called(story, connections={"body_timeout_seconds": 0.2})


def test_a_call_that_is_taken_back_before_its_message_came_leaves_nothing_behind(called: Called) -> None:
    async def story(site: Site, made: Any) -> None:
        call = made.stream_unary(MODEL_INFER)()
        await call.wait_for_connection()
        await site.until("graftwork_in_flight_requests", value=1)
        call.cancel()
        await check_that_nothing_leaks(site)
        assert (await site.outcomes()) == {("_unknown", "disconnected", "_unknown"): 1}

    called(story)


def test_calls_that_are_taken_back_at_any_moment_end_once_and_quietly(
    called: Called, caplog: pytest.LogCaptureFixture
) -> None:
    chance = random.Random(1)

    async def story(site: Site, made: Any) -> None:
        async def change_ones_mind() -> None:
            call = made.unary_unary(MODEL_INFER)(text_request(b"1").SerializeToString())
            await asyncio.sleep(chance.random() * 0.02)
            call.cancel()
            with suppress(asyncio.CancelledError):
                await call

        for _ in range(20):
            await asyncio.gather(*(change_ones_mind() for _ in range(16)))
        await check_that_nothing_leaks(site)
        assert {outcome for _, outcome, _ in await site.outcomes()} <= {"ok", "disconnected"}

    called(story)
    assert not [each for each in caplog.records if each.name.startswith(("grpc", "asyncio", "service.api.oip"))]
