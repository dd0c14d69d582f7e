from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.server_process import json_body
from tests.service.echo_engine import POISON, decoded
from tests.service.site import Client, Play, Site

LETTERS, MOODS = 1.0, -3.0  # the weights of their heads


def test_a_prediction(play: Play) -> None:
    async def story(site: Site) -> None:
        reply = await site.predict("letters", ["100", "200"], **{"x-request-id": "abc-1"})
        assert reply.status == 200
        assert reply.headers["content-type"] == "application/json"
        document = reply.json()
        assert list(document) == ["predictions", "model", "version", "request_id"]
        assert (document["model"], document["version"], document["request_id"]) == ("letters", 1, "abc-1")
        assert decoded(document["predictions"], LETTERS) == [100, 200]

    play(story)


def test_a_version_and_an_alias_are_addressed_by_their_own_routes(play: Play) -> None:
    async def story(site: Site) -> None:
        path = "/v1/models/moods"
        assert (await site.request("POST", f"{path}/versions/1:predict", json_body(["1"]))).json()["version"] == 1
        for address, status, code in [
            ("versions/2", 404, "version_not_found"),
            ("versions/0", 400, "invalid_parameter"),
            ("versions/01", 400, "invalid_parameter"),
            ("versions/latest", 400, "invalid_parameter"),
            ("versions/9999999999999999999", 400, "invalid_parameter"),
            ("labels/champion", 404, "version_not_found"),
            ("labels/-", 400, "invalid_parameter"),
        ]:
            reply = await site.request("POST", f"{path}/{address}:predict", json_body(["1"]))
            assert (reply.status, reply.json()["code"]) == (status, code), address

    play(story)


def test_concurrent_requests_get_their_own_answers(play: Play) -> None:
    async def story(site: Site) -> None:
        weights = {"letters": LETTERS, "moods": MOODS}
        asked = [(name, number) for number in range(100) for name in weights]
        replies = await asyncio.gather(*(site.predict(name, [str(number)]) for name, number in asked))
        for (name, number), reply in zip(asked, replies, strict=True):
            assert decoded(reply.json()["predictions"], weights[name]) == [number]
            assert reply.json()["model"] == name
        assert max(map(len, site.engine.batches)) > 1
        assert await site.metric("graftwork_rows_total") == {("letters", "1"): 100, ("moods", "1"): 100}
        batches = await site.metric("graftwork_batch_size_rows_sum")
        assert batches == {("echo-backbon",): 200}

    play(story, workers=2)


@pytest.mark.parametrize(("top_k", "labels"), [("1", 1), ("2", 2), ("999999999", 2)])
def test_top_k(play: Play, top_k: str, labels: int) -> None:
    async def story(site: Site) -> None:
        reply = await site.predict("letters", ["1"], f"top_k={top_k}&unknown=1")
        assert len(reply.json()["predictions"][0]["scores"]) == labels

    play(story)


def test_options_that_make_no_sense(play: Play) -> None:
    async def story(site: Site) -> None:
        odd = ["", "0", "-1", "1.0", "x", "\u0663", "1000000000", "9" * 5000]
        for query in [*(f"top_k={value}" for value in odd), "truncate=1", "truncate=", "truncate=yes"]:
            reply = await site.predict("letters", ["1"], query)
            assert (reply.status, reply.json()["code"]) == (400, "invalid_parameter"), query
        for query, truncated in [("truncate=true", True), ("truncate=True", True), ("truncate=false", None)]:
            reply = await site.predict("letters", ["1"], query)
            assert reply.json()["predictions"][0].get("truncated") is truncated

    play(story)


def test_a_bad_instance_fails_the_request_and_is_named(play: Play) -> None:
    async def story(site: Site) -> None:
        reply = await site.predict("letters", ["1", "blank", "3"])
        assert (reply.status, reply.json()["code"]) == (422, "empty_text")
        assert reply.json()["detail"] == "instance 1: the text is empty"
        assert await site.metric("graftwork_errors_total") == {("letters", "empty_text", "1"): 1}

    play(story)


def test_an_unknown_model_is_told_before_its_body_is_read(play: Play) -> None:
    async def story(site: Site) -> None:
        reply = await site.request("POST", "/v1/models/letter:predict", headers={"content-length": "999999999999"})
        assert (reply.status, reply.json()["code"]) == (404, "model_not_found")
        assert "did you mean 'letters'" in reply.json()["detail"]
        assert await site.outcomes() == {("_unknown", "client_error", "_unknown"): 1}

    play(story)


def test_bodies_over_the_limit_of_the_modality(play: Play) -> None:
    async def story(site: Site) -> None:
        for chunks in ([b"x" * 101], [b"x" * 60, b"x" * 60]):
            reply = await site.request("POST", "/v1/models/letters:predict", *chunks)
            assert (reply.status, reply.json()["code"]) == (413, "body_too_large")
        declared = await site.request("POST", "/v1/models/letters:predict", headers={"content-length": "101"})
        assert declared.status == 413

    play(story, max_json_bytes=100)


OF_LETTERS = {  # what clients of OpenAI's interface read there
    "id": "letters",
    "object": "model",
    "created": 0,
    "owned_by": "graftwork",
    "task": "single-label",
    "modality": "text",
    "dimensions": 16,
}


def test_the_models_and_their_states(play: Play) -> None:
    async def story(site: Site) -> None:
        assert (await site.get("/v1/models")).json()["models"] == ["colours", "letters", "moods"]
        found = (await site.get("/v1/models/letters")).json()
        assert {**found, "created": 0} == {
            **OF_LETTERS,
            "name": "letters",
            "ready": True,
            "default_version": 1,
            "aliases": {},
            "keep": "latest:2",
            "versions": [{"version": 1, "state": "ready"}],
        }
        refused = (await site.get("/v1/models/colours")).json()  # the echo worker cannot load it
        assert refused["ready"] is False
        assert refused["versions"] == [{"version": 1, "state": "failed", "reason": "not loaded"}]
        reply = await site.predict("colours", ["1"])
        assert (reply.status, reply.json()["code"]) == (422, "version_corrupt")
        assert reply.json()["detail"] == "colours:1 is not served: not loaded"
        assert (await site.get("/v1/models/unheard-of")).json()["code"] == "model_not_found"

    play(story)


def test_the_metadata_are_the_manifest(play: Play) -> None:
    async def story(site: Site) -> None:
        metadata = (await site.get("/v1/models/moods/metadata")).json()
        assert (metadata["name"], metadata["number"], metadata["labels"]) == ("moods", 1, ["glad", "sad"])
        assert json.dumps(metadata)
        assert (await site.get("/v1/models/moods:1/metadata")).status == 404

    play(story)


def test_while_the_models_are_loaded_requests_may_come_back(play: Play) -> None:
    async def story(site: Site) -> None:
        while (await site.get("/v1/models")).json()["models"] != ["colours", "letters", "moods"]:
            await asyncio.sleep(0.005)
        reply = await site.predict("letters", ["1"])
        assert (reply.status, reply.json()["code"]) == (503, "not_ready")
        assert "retry-after" in reply.headers

    play(story, workers=0)


def test_a_lost_worker_is_503_and_the_server_is_not_ready(play: Play) -> None:
    async def story(site: Site) -> None:
        site.engine.gate.clear()
        waiting = [asyncio.create_task(site.predict("letters", [str(n)])) for n in range(5)]
        while (await site.metric("graftwork_in_flight_requests"))[()] < 5 or not site.engine.batches:
            await asyncio.sleep(0.001)
        await asyncio.to_thread(site.stop_workers)
        for reply in await asyncio.gather(*waiting, site.predict("letters", ["9"])):
            if reply.status != 200:  # what was being computed may have been sent just in time
                assert reply.status == 503
                assert reply.json()["code"] in ("worker_lost", "not_ready")
                assert int(reply.headers["retry-after"]) >= 1
        assert (await site.get("/health/ready")).status == 503
        await site.start_worker()
        assert (await site.predict("letters", ["9"])).status == 200

    play(story)


def test_a_full_server_says_so_and_when_to_come_back(play: Play) -> None:
    async def story(site: Site) -> None:
        site.engine.gate.clear()
        waiting = [asyncio.create_task(site.predict("letters", ["1", "2"])) for _ in range(2)]
        while (await site.metric("graftwork_in_flight_rows"))[()] < 4:
            await asyncio.sleep(0.001)
        refused = await site.predict("letters", ["5"])
        assert (refused.status, refused.json()["code"]) == (503, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        site.engine.gate.set()
        assert [(await task).status for task in waiting] == [200, 200]
        assert (await site.predict("letters", ["5"])).status == 200
        assert await site.metric("graftwork_in_flight_rows") == {(): 0}
        assert await site.outcomes() == {("letters", "ok", "1"): 3, ("letters", "shed", "1"): 1}

    play(story, max_rows_in_flight=4)


def test_more_bytes_than_there_is_room_for_are_refused(play: Play) -> None:
    async def story(site: Site) -> None:
        site.engine.gate.clear()
        first = asyncio.create_task(site.request("POST", "/v1/models/letters:predict", json_body(["1"]) + b" " * 80))
        await site.until("graftwork_in_flight_rows", value=1)
        reply = await site.predict("letters", ["2"])
        assert (reply.status, reply.json()["code"]) == (503, "overloaded")
        assert "retry-after" in reply.headers
        assert (await site.metric("graftwork_in_flight_bytes"))[()] == len(json_body(["1"])) + 80
        site.engine.gate.set()
        assert (await first).status == 200
        assert (await site.predict("letters", ["2"])).status == 200
        assert await site.metric("graftwork_in_flight_bytes") == {(): 0}

    play(story, max_bytes_in_flight=110)


# What is counted


def test_g20_every_request_has_one_outcome(play: Play) -> None:
    async def story(site: Site) -> None:
        async def ask(number: int) -> int:
            model, instances, headers = [
                ("letters", ["1"], {}),
                ("moods", ["1", "2"], {}),
                ("letters", ["blank"], {}),
                ("letters", ["?"], {}),
                ("letters", [str(POISON)], {}),
                ("letters", 3, {}),
                ("unheard-of", ["1"], {}),
                ("moods", ["1"], {"x-request-timeout": "0.000001"}),
                ("moods", ["1"], {"x-request-timeout": "never"}),
            ][number % 9]
            client = Client()
            asking = asyncio.create_task(
                site.request(
                    "POST", f"/v1/models/{model}:predict", json_body(instances), headers=headers, client=client
                )
            )
            if number % 4 == 0:
                await asyncio.sleep(0)
                if client.callback is not None:
                    client.hang_up()
            return (await asking).status

        statuses = Counter(await asyncio.gather(*(ask(number) for number in range(360))))
        outcomes: Counter[str] = Counter()
        for (_, outcome, _), count in (await site.outcomes()).items():
            outcomes[outcome] += int(count)
        assert await site.metric("graftwork_received_requests_total") == {(): 360}
        assert sum(outcomes.values()) == 360
        assert outcomes == {
            "ok": statuses[200],
            "client_error": statuses[400] + statuses[404] + statuses[422],
            "shed": statuses[503],
            "timeout": statuses[504],
            "failed": statuses[500],
            "disconnected": statuses[0],
        }
        assert min(outcomes.values()) > 0
        for gauge in ("requests", "rows", "bytes"):
            assert await site.metric(f"graftwork_in_flight_{gauge}") == {(): 0}

    play(story, workers=2, max_rows_in_flight=64)


def test_l19_no_counter_goes_down_when_workers_die(play: Play) -> None:
    async def counters(site: Site) -> dict[tuple[str, ...], float]:
        families = text_string_to_metric_families((await site.get("/metrics")).body.decode())
        return {
            (sample.name, *map("=".join, sorted(sample.labels.items()))): sample.value
            for family in families
            if family.type in ("counter", "histogram")
            for sample in family.samples
        }

    async def story(site: Site) -> None:
        before: dict[tuple[str, ...], float] = {}
        for _ in range(3):
            for number in range(4):
                assert (await site.predict("letters", [str(number)])).status == 200
            after = await counters(site)
            assert all(after[name] >= value for name, value in before.items())
            before = after
            assert len(await site.metric("graftwork_queue_depth_rows")) == 1
            await asyncio.to_thread(site.stop_workers)
            await site.until("graftwork_workers", value=0)
            after = await counters(site)
            assert all(after[name] >= value for name, value in before.items())
            assert await site.metric("graftwork_queue_depth_rows") == {}
            await site.start_worker()
        assert (await site.metric("graftwork_rows_total"))["letters", "1"] == 12

    play(story)
