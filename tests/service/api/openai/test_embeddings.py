"""Embeddings on the echo engine: lists in parts, and what becomes of them when something goes wrong on the way."""

from __future__ import annotations

import asyncio
import base64
import json
from array import array
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server_process import Reply
from tests.service.echo_engine import SCALE
from tests.service.site import MAX_BATCH_ROWS, Client, Play, Site

PATH = "/v1/embeddings"
SMALL = {"max_batch_rows": MAX_BATCH_ROWS, "max_rows_in_flight": 4 * MAX_BATCH_ROWS}


async def ask(site: Site, input_: Any, *, client: Client | None = None, timeout: str = "", **members: Any) -> Reply:
    body = json.dumps({"model": "letters", "input": input_, "encoding_format": "base64", **members}).encode()
    headers = {"x-request-timeout": timeout} if timeout else {}
    return await site.request("POST", PATH, body, headers=headers, client=client)


def numbers(reply: Reply) -> list[int]:
    """Those that the embeddings are of."""
    assert reply.status == 200, reply.body
    data = reply.json()["data"]
    assert [each["index"] for each in data] == list(range(len(data)))
    vectors = [array("f", base64.b64decode(each["embedding"])) for each in data]
    return [round(first / second * SCALE) for first, second in vectors]


def texts(count: int) -> list[str]:
    """Of many lengths, in no order of them."""
    return [f"{number}{' 0' * (number * 7 % 5)}" for number in range(count)]


async def nothing_is_left(site: Site) -> None:
    await site.until("graftwork_in_flight_rows", value=0)
    assert numbers(await ask(site, ["7"])) == [7]


def test_a_list_is_answered_in_parts_beside_others_and_each_in_its_order(play: Play) -> None:
    async def story(site: Site) -> None:
        replies = await asyncio.gather(*[ask(site, texts(count)) for count in (1, 2, 100, 8, 9, 333)])
        for reply, count in zip(replies, (1, 2, 100, 8, 9, 333), strict=True):
            assert numbers(reply) == list(range(count))
            tokens = sum(len(text.split()) for text in texts(count))
            assert reply.json()["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
        assert max(map(len, site.engine.batches)) <= MAX_BATCH_ROWS
        assert await site.outcomes() == {("letters", "ok", "1"): 6}
        assert (await site.metric("graftwork_rows_total"))["letters", "1"] == 453
        await nothing_is_left(site)

    play(story, **SMALL)


def test_predictions_find_room_beside_the_longest_list(play: Play) -> None:
    async def story(site: Site) -> None:
        site.engine.gate.clear()
        listing = asyncio.create_task(ask(site, texts(1000)))
        await site.until("graftwork_in_flight_rows", value=1000)
        waiting = asyncio.create_task(site.predict("letters", ["1"] * 8))
        await site.until("graftwork_in_flight_rows", value=1008)
        site.engine.gate.set()
        assert (await waiting).status == 200
        assert numbers(await listing) == list(range(1000))

    play(story, **SMALL)


def test_a_list_has_the_turns_of_one_request_and_its_parts_are_done_one_after_the_other(play: Play) -> None:
    """However many of them are in flight: else none would be done before nearly all are."""

    async def story(site: Site) -> None:
        site.engine.gate.clear()
        listing = asyncio.create_task(ask(site, [f"{number}" for number in range(200)]))
        await site.until("graftwork_in_flight_rows", value=200)
        while not site.engine.batches:
            await asyncio.sleep(0.001)
        small = asyncio.create_task(site.predict("letters", [str(number) for number in range(900, 908)]))
        await site.until("graftwork_in_flight_rows", value=208)
        in_worker = 3 * MAX_BATCH_ROWS + 8  # the parts that a list has there, and the other request
        while (await site.metric("graftwork_queue_depth_rows")).get(("0",), 0) + sum(
            map(len, site.engine.batches)
        ) < in_worker:
            await asyncio.sleep(0.01)
        site.engine.gate.set()
        assert (await small).status == 200
        assert numbers(await listing) == list(range(200))
        done = [number for batch in site.engine.batches for number in batch]
        assert max(done.index(number) for number in range(900, 908)) < 60
        first_of_each_part = [done.index(number) for number in range(0, 200, MAX_BATCH_ROWS)]
        last_of_each_part = [done.index(number) for number in range(MAX_BATCH_ROWS - 1, 200, MAX_BATCH_ROWS)]
        later = zip(last_of_each_part, first_of_each_part[3:], strict=False)
        assert all(last < first for last, first in later)

    play(story, max_batch_rows=MAX_BATCH_ROWS, max_rows_in_flight=1000)


def test_an_embedding_finds_room_beside_any_number_of_predictions(play: Play) -> None:
    async def story(site: Site) -> None:
        site.engine.gate.clear()
        predictions = [asyncio.create_task(site.predict("letters", [str(n)])) for n in range(32)]
        await site.until("graftwork_in_flight_rows", value=32)
        assert (await site.predict("letters", ["1"])).status == 503
        one = asyncio.create_task(ask(site, ["7"]))
        await site.until("graftwork_in_flight_rows", value=33)
        site.engine.gate.set()
        assert numbers(await one) == [7]
        assert [reply.status for reply in await asyncio.gather(*predictions)] == [200] * 32

    play(story, **SMALL)


def test_a_list_that_takes_too_long_gives_up_all_of_its_parts(play: Play) -> None:
    async def story(site: Site) -> None:
        site.engine.gate.clear()
        reply = await ask(site, texts(300), timeout="0.05")
        assert (reply.status, reply.json()["error"]["code"]) == (504, "deadline_exceeded")
        site.engine.gate.set()
        await nothing_is_left(site)
        assert sum(map(len, site.engine.batches)) < 300

    play(story, **SMALL)


def test_a_list_whose_client_hangs_up_is_not_computed_on(play: Play) -> None:
    async def story(site: Site) -> None:
        site.engine.gate.clear()
        client = Client()
        listing = asyncio.create_task(ask(site, texts(300), client=client))
        await site.until("graftwork_in_flight_rows", value=300)
        client.hang_up()
        assert (await listing).status == 0
        site.engine.gate.set()
        await nothing_is_left(site)
        assert sum(map(len, site.engine.batches)) < 300
        assert (await site.outcomes())["letters", "disconnected", "1"] == 1

    play(story, **SMALL)


@pytest.mark.parametrize(("bad", "status", "code"), [("blank", 422, "empty_text"), ("-1", 500, "internal")])
@pytest.mark.parametrize("place", [0, 150, 299])
def test_one_bad_text_ends_its_list_and_no_other(play: Play, bad: str, status: int, code: str, place: int) -> None:
    """It is empty, or the engine breaks on it."""

    async def story(site: Site) -> None:
        broken: Sequence[str] = [bad if number == place else text for number, text in enumerate(texts(300))]
        refused, answered = await asyncio.gather(ask(site, broken), ask(site, texts(200)))
        error = refused.json()["error"]
        assert (refused.status, error["code"]) == (status, code)
        if bad == "blank":
            assert error["message"] == f"instance {place}: the text is empty"
        else:
            assert refused.headers["x-should-retry"] == "false"
        assert numbers(answered) == list(range(200))
        await nothing_is_left(site)

    play(story, **SMALL)


@pytest.mark.parametrize(("timeout", "closing", "moves"), [("", False, True), ("60", False, False), ("", True, False)])
def test_each_part_has_as_long_as_a_request_has(
    play: Play, monkeypatch: pytest.MonkeyPatch, timeout: str, *, closing: bool, moves: bool
) -> None:
    """Unless the client has said how long it waits, or the server is about to stop."""

    async def story(site: Site) -> None:
        deadlines = []
        plain = site.application._pool.predict

        async def predict(*args: Any, deadline: float, **options: Any) -> Any:
            deadlines.append(deadline)
            return await plain(*args, deadline=deadline, **options)

        monkeypatch.setattr(site.application._pool, "predict", predict)
        site.application._inference.closing = closing
        assert numbers(await ask(site, texts(200), timeout=timeout)) == list(range(200))
        assert len(deadlines) == 200 / MAX_BATCH_ROWS
        assert deadlines == sorted(deadlines)
        assert (deadlines[-1] > deadlines[0]) is moves

    play(story, **SMALL)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=6,
)
MEMBERS = st.fixed_dictionaries(
    {},
    optional={
        "model": JSON | st.sampled_from(["letters", "letters:1", "moods", "colours", "nobody"]),
        "input": JSON | st.sampled_from(["1", ["1", "2"], [3], [[4], [5, 6]], ["blank"], [True], [[]], ["1", ["2"]]]),
        "encoding_format": JSON | st.sampled_from(["float", "base64"]),
        "dimensions": JSON | st.integers(-1, 20),
        "truncate": JSON,
    },
)


@pytest.mark.parametrize("stream", ["any JSON", "members"])
def test_no_body_is_the_servers_fault(play: Play, stream: str) -> None:
    async def story(site: Site) -> None:
        @settings(max_examples=150, suppress_health_check=list(HealthCheck))
        @given(JSON if stream == "any JSON" else MEMBERS)
        def check(document: Any) -> None:
            reply = asyncio.run_coroutine_threadsafe(
                site.request("POST", PATH, json.dumps(document).encode()), loop
            ).result(30)
            assert reply.status in (200, 400, 404, 413, 422), (document, reply.body)
            if reply.status == 200:
                assert reply.json()["data"]
            else:
                assert set(reply.json()["error"]) == {"message", "type", "param", "code"}

        loop = asyncio.get_running_loop()
        await asyncio.to_thread(check)

    play(story)


def test_a_million_tokens_are_refused_before_they_are_parsed(play: Play) -> None:
    async def story(site: Site) -> None:
        reply = await ask(site, [[7] * 300] * 2000)
        assert (reply.status, reply.json()["error"]["code"]) == (413, "body_too_large")
        assert (await ask(site, [[7] * 240] * 2000)).status == 200

    play(story)
