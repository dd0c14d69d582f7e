"""Triton's statistics extension, asked through the whole application."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from models.errors import NotReady, VersionNotLoaded
from service.api.metrics import Metrics
from service.api.oip.statistics import Statistics
from service.messages import Batch, Report, Timings
from tests.service.api.catalog_stage import Stage
from tests.service.api.catalog_stage import play as play_catalog
from tests.service.site import Play, Site

DURATIONS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")


async def statistics(site: Site, path: str = "") -> dict[tuple[str, str], dict[str, Any]]:
    """The statistics of each version."""
    reply = await site.get(f"/v2/models{path}/stats")
    assert reply.status == 200
    return {(each["name"], each["version"]): each for each in reply.json()["model_stats"]}


def counts(stats: Mapping[str, Any]) -> dict[str, int]:
    return {name: stats["inference_stats"][name]["count"] for name in DURATIONS}


def test_what_was_never_asked_has_zeros(play: Play) -> None:
    async def story(site: Site) -> None:
        found = await statistics(site)
        assert list(found) == [("letters", "1"), ("moods", "1")]
        assert found["letters", "1"] == {
            "name": "letters",
            "version": "1",
            "last_inference": 0,
            "inference_count": 0,
            "execution_count": 0,
            "inference_stats": {name: {"count": 0, "ns": 0} for name in DURATIONS},
            "response_stats": {},
            "batch_stats": [],
            "memory_usage": [],
        }

    play(story)


async def ask_in_one_batch(site: Site, *requests: tuple[str, list[str]]) -> None:
    """Asks while the device is busy with a row for ``letters``."""
    site.engine.gate.clear()
    asking = [asyncio.create_task(site.predict("letters", ["0"]))]
    while not site.engine.batches:
        await asyncio.sleep(0.002)
    asking += [asyncio.create_task(site.predict(*each)) for each in requests]
    await site.until("graftwork_queue_depth_rows", "0", value=sum(len(rows) for _, rows in requests))
    site.engine.gate.set()
    assert {(await each).status for each in asking} == {200}
    await site.until("graftwork_batch_size_rows_count", "echo-backbon", value=2)


def test_requests_rows_and_batches_are_counted_by_version(play: Play) -> None:
    async def story(site: Site) -> None:
        before = int(time.time() * 1000)
        await ask_in_one_batch(site, ("letters", ["1", "2", "3"]))
        after = time.time() * 1000
        assert [(await site.predict("letters", wrong)).status for wrong in (["blank"], "nothing")] == [422, 422]
        found = (await statistics(site))["letters", "1"]
        assert (found["inference_count"], found["execution_count"]) == (4, 2)
        asked_twice = dict.fromkeys(DURATIONS, 2)
        assert counts(found) == {**asked_twice, "cache_hit": 0, "cache_miss": 0}
        assert before <= found["last_inference"] <= after
        spent = {part: duration["ns"] for part, duration in found["inference_stats"].items()}
        assert 0 < spent["compute_input"] + spent["queue"] + spent["compute_infer"] < spent["success"]
        assert min(spent[part] for part in ("compute_input", "queue", "compute_infer", "fail")) > 0
        assert spent["fail"] < spent["success"]  # which waited for the device
        assert spent["compute_output"] == 0
        first, second = found["batch_stats"]
        assert (first["batch_size"], second["batch_size"]) == (1, 3)
        assert first["compute_infer"]["count"] == second["compute_infer"]["count"] == 1
        assert first["compute_infer"]["ns"] + second["compute_infer"]["ns"] == pytest.approx(spent["compute_infer"])
        assert second["compute_input"] == second["compute_output"] == {"count": 1, "ns": 0}

    play(story)


def test_a_batch_of_two_models_is_one_of_each_and_has_the_size_of_both(play: Play) -> None:
    async def story(site: Site) -> None:
        await ask_in_one_batch(site, ("letters", ["1", "2"]), ("moods", ["3"]))
        found = await statistics(site)
        sizes = {
            name: [each["batch_size"] for each in found[name, "1"]["batch_stats"]] for name in ("letters", "moods")
        }
        assert sizes == {"letters": [1, 3], "moods": [3]}
        assert {name: found[name, "1"]["execution_count"] for name in sizes} == {"letters": 2, "moods": 1}
        assert {name: found[name, "1"]["inference_count"] for name in sizes} == {"letters": 3, "moods": 1}

    play(story)


def test_one_model_and_one_version_can_be_asked_for(play: Play) -> None:
    async def story(site: Site) -> None:
        everything = await statistics(site)
        for path in ("/letters", "/letters/versions/1"):
            assert await statistics(site, path) == {("letters", "1"): everything["letters", "1"]}

    play(story)


def test_what_is_not_there_is_an_error_in_the_protocol_s_shape(play: Play) -> None:
    async def story(site: Site) -> None:
        for path, status, code in [
            ("/v2/models/nobody/stats", 404, "model_not_found"),
            ("/v2/models/stats/stats", 404, "model_not_found"),  # no literal, but those of a model of this name
            ("/v2/models/nobody/versions/1/stats", 404, "model_not_found"),
            ("/v2/models/letters/versions/7/stats", 404, "version_not_found"),
            ("/v2/models/letters/versions/x/stats", 404, "version_not_found"),
            ("/v2/models/%20/stats", 400, "invalid_parameter"),
        ]:
            reply = await site.get(path)
            assert (reply.status, reply.code) == (status, code), path
            assert list(reply.json()) == ["error"]

    play(story)


def test_only_versions_that_are_served_are_listed_and_others_say_why_not() -> None:
    async def story(stage: Stage) -> None:
        await stage.publish("stats", 1)
        for number in (2, 3, 4):
            stage.shelf.publish("stats", number)
        stage.shelf.publish("later", 1)
        await stage.refresh()
        await stage.finish("stats", 3)
        await stage.finish("stats", 4)
        made = Statistics(stage.catalog, stage.metrics)
        served = [("stats", "3"), ("stats", "4")]
        assert [(each["name"], each["version"]) for each in made.document()["model_stats"]] == served
        assert [(each["name"], each["version"]) for each in made.document("stats")["model_stats"]] == served
        assert made.document("later") == {"model_stats": []}
        with pytest.raises(VersionNotLoaded):
            made.document("stats", "2")
        with pytest.raises(NotReady):
            made.document("later", "1")

    play_catalog(story)


seconds = st.floats(0, 1e6)
answers = st.builds(Timings, decode=seconds, queue=seconds, compute=seconds)
shares = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(1, 2), st.integers(1, 9)), unique_by=lambda share: share[:2]
)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["ok", "shed", "failed"]), seconds, answers)),
    st.lists(st.tuples(shares, seconds)),
)
def test_it_agrees_with_itself_and_its_protobuf_message_takes_it(
    requests: list[tuple[str, str, float, Timings]], batches: list[tuple[list[tuple[str, int, int]], float]]
) -> None:
    metrics = Metrics("0")
    for name, outcome, took, timings in requests:
        metrics.observe_begin()
        if outcome == "ok":
            metrics.observe_answer(name, "1", 2, timings)
        metrics.observe_end(name, "1", outcome, None, took)
    for versions, took in batches:
        rows = sum(count for _, _, count in versions)
        metrics.observe_report(0, Report(batches=[Batch(backbone="b", rows=rows, seconds=took, versions=versions)]))

    async def story(stage: Stage) -> None:
        for name in "ab":
            await stage.publish(name, 1)
        document = Statistics(stage.catalog, metrics).document()
        message = json_format.ParseDict(document, service_pb2.ModelStatisticsResponse())
        for stats, parsed in zip(document["model_stats"], message.model_stats, strict=True):
            name = stats["name"]
            ended = [outcome for model, outcome, *_ in requests if model == name]
            assert counts(stats)["success"] == ended.count("ok")
            assert counts(stats)["fail"] == len(ended) - ended.count("ok")
            assert counts(stats)["queue"] == ended.count("ok")
            assert stats["inference_count"] == 2 * ended.count("ok")
            had = [versions for versions, _ in batches if any(share[:2] == (name, 1) for share in versions)]
            assert stats["execution_count"] == len(had)
            assert sum(each["compute_infer"]["count"] for each in stats["batch_stats"]) == len(had)
            assert {each["batch_size"] for each in stats["batch_stats"]} == {sum(s[2] for s in each) for each in had}
            assert (parsed.name, parsed.version) == (name, "1")
            assert parsed.inference_count == stats["inference_count"]
            assert parsed.execution_count == stats["execution_count"]
            for part in DURATIONS:
                duration = getattr(parsed.inference_stats, part)
                assert {"count": duration.count, "ns": duration.ns} == stats["inference_stats"][part]
            assert [each.batch_size for each in parsed.batch_stats] == [e["batch_size"] for e in stats["batch_stats"]]

    play_catalog(story)
