"""Deadlines, and clients that hang up: what nobody waits for is not computed."""

from __future__ import annotations

import asyncio
import time

from tests.server_process import Reply, json_body
from tests.service.site import Client, Play, Site


def test_a_request_past_its_deadline_is_neither_answered_nor_computed(play: Play) -> None:
    async def story(site: Site) -> None:
        site.engine.gate.clear()
        tasks = [asyncio.create_task(site.predict("letters", ["0"]))]
        while not site.engine.batches:
            await asyncio.sleep(0.001)
        tasks += [asyncio.create_task(site.predict("letters", [number])) for number in ("1", "2")]
        for reply in await asyncio.gather(*tasks):
            assert (reply.status, reply.json()["code"]) == (504, "deadline_exceeded")
        site.engine.gate.set()
        assert (await site.predict("letters", ["3"])).status == 200
        assert site.engine.batches == [[0], [3]]
        assert await site.metric("graftwork_in_flight_rows") == {(): 0}
        assert (await site.metric("graftwork_requests_total"))["letters", "timeout", "1"] == 3

    play(story, request_timeout_seconds=0.2)


def test_o05_a_client_may_wait_for_less_than_the_server_would(play: Play) -> None:
    async def story(site: Site) -> None:
        site.engine.gate.clear()
        started = time.monotonic()
        reply = await site.predict("letters", ["1"], **{"x-request-timeout": "0.1"})
        assert (reply.status, reply.json()["code"]) == (504, "deadline_exceeded")
        assert 0.1 <= time.monotonic() - started < 0.1 + 0.25
        site.engine.gate.set()
        for header in ("0", "-1", "soon", "nan"):
            reply = await site.predict("letters", ["1"], **{"x-request-timeout": header})
            assert (reply.status, reply.json()["code"]) == (400, "invalid_parameter")
        assert (await site.predict("letters", ["1"], **{"x-request-timeout": "1e9"})).status == 200

    play(story)


def test_o05_rows_that_wait_past_their_deadline_are_never_computed_and_counted(play: Play) -> None:
    async def story(site: Site) -> None:
        site.engine.gate.clear()
        first = asyncio.create_task(site.predict("letters", ["0"]))
        while not site.engine.batches:
            await asyncio.sleep(0.001)
        replies = await asyncio.gather(
            *(site.predict("letters", ["1", "2"], **{"x-request-timeout": "0.1"}) for _ in range(3))
        )
        assert [reply.status for reply in replies] == [504] * 3
        site.engine.gate.set()
        assert (await first).status == (await site.predict("letters", ["3"])).status == 200
        assert site.engine.batches == [[0], [3]]
        await site.until("graftwork_dropped_rows_total", value=6)

    play(story)


def test_o04_rows_of_a_client_that_hung_up_are_never_computed_and_counted(play: Play) -> None:
    async def story(site: Site) -> None:
        async def ask(*rows: str, client: Client) -> Reply:
            return await site.request("POST", "/v1/models/letters:predict", json_body(rows), client=client)

        site.engine.gate.clear()
        clients = [Client() for _ in range(4)]
        asked = [asyncio.create_task(ask("0", client=clients[0]))]
        while not site.engine.batches:
            await asyncio.sleep(0.001)
        asked += [asyncio.create_task(ask("1", "2", client=client)) for client in clients[1:]]
        await site.until("graftwork_in_flight_rows", value=7)
        for client in clients:
            client.hang_up()
        assert [(await task).status for task in asked] == [0] * 4  # there is nobody to be answered
        for gauge in ("requests", "rows", "bytes"):
            assert await site.metric(f"graftwork_in_flight_{gauge}") == {(): 0}
        site.engine.gate.set()
        assert (await site.predict("letters", ["9"])).status == 200
        assert site.engine.batches == [[0], [9]]
        await site.until("graftwork_dropped_rows_total", value=6)
        assert await site.outcomes() == {("letters", "disconnected", "1"): 4, ("letters", "ok", "1"): 1}

    play(story)
