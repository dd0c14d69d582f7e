"""What is kept loaded: what the policy says, what has an alias, and what still answers."""

from __future__ import annotations

import asyncio

import pytest

from models.errors import VersionNotLoaded
from service.api.catalog_model import State
from tests.service.api.catalog_stage import FakeConnection, Stage, play, settle


def states(stage: Stage, name: str = "m") -> dict[int, str]:
    return {number: str(entry.state) for number, entry in stage.catalog.model(name).versions.items()}


def test_the_latest_two_are_loaded_and_an_older_one_goes_once_its_successor_is_ready() -> None:
    async def story(stage: Stage) -> None:
        await stage.publish("m", 1)
        await stage.publish("m", 2)
        stage.shelf.publish("m", 3)
        await stage.refresh()
        assert states(stage) == {1: "ready", 2: "ready", 3: "loading"}
        assert stage.answers("m", number=1) == 1
        await stage.finish("m", 3)
        assert states(stage) == {1: "unloaded", 2: "ready", 3: "ready"}
        assert all(worker.unloaded == [("m", 1)] for worker in stage.workers)
        with pytest.raises(VersionNotLoaded, match="m:1 is not kept loaded, but latest:2 and what has an alias"):
            stage.answers("m", number=1)
        assert stage.metric("graftwork_loaded_versions") == {("m", "2"): 1, ("m", "3"): 1}

    play(story)


def test_of_many_versions_only_those_that_are_kept_are_loaded_at_the_start() -> None:
    async def story(stage: Stage) -> None:
        for number in range(1, 6):
            stage.shelf.publish("m", number)
        stage.shelf.promote("m", "champion", 1)
        await stage.refresh()
        assert sorted(stage.workers[0].asked) == [("m", 1), ("m", 4), ("m", 5)]

    play(story)


@pytest.mark.parametrize(("policy", "kept"), [("all", {1, 2, 3}), ("1,3", {1, 3}), ("latest:1", {3}), ("7", set())])
def test_the_policy_says_which(policy: str, kept: set[int]) -> None:
    async def story(stage: Stage) -> None:
        for number in (1, 2, 3):
            stage.shelf.publish("m", number)
        stage.shelf.keep["m"] = policy
        await stage.refresh()
        assert {number for _, number in stage.workers[0].asked} == kept
        for number in kept:
            await stage.finish("m", number)
        assert {number for number, state in states(stage).items() if state == "ready"} == kept

    play(story)


def test_a_change_of_the_policy_loads_and_unloads() -> None:
    async def story(stage: Stage) -> None:
        for number in (1, 2, 3):
            await stage.publish("m", number)
        stage.shelf.keep["m"] = "1"
        stage.shelf.changes += 1
        await stage.refresh()
        assert states(stage) == {1: "loading", 2: "ready", 3: "ready"}
        assert stage.answers("m") == 3
        await stage.finish("m", 1)
        assert stage.answers("m") == 1
        assert states(stage) == {1: "ready", 2: "unloaded", 3: "unloaded"}

    play(story)


def test_an_aliased_version_stays_and_an_alias_brings_one_back() -> None:
    async def story(stage: Stage) -> None:
        await stage.publish("m", 1)
        await stage.promote("m", "stable", 1)
        await stage.publish("m", 2)
        await stage.publish("m", 3)
        assert states(stage) == {1: "ready", 2: "ready", 3: "ready"}
        await stage.publish("m", 4)
        assert states(stage) == {1: "ready", 2: "unloaded", 3: "ready", 4: "ready"}
        await stage.promote("m", "stable", 2)
        assert stage.answers("m", alias="stable") == 1  # until the other one is there
        await stage.finish("m", 2)
        assert stage.answers("m", alias="stable") == 2
        assert states(stage) == {1: "unloaded", 2: "ready", 3: "ready", 4: "ready"}

    play(story)


def test_where_the_newest_cannot_be_loaded_an_older_one_stays_or_comes_back() -> None:
    async def story(stage: Stage) -> None:
        stage.shelf.keep["m"] = "latest:1"
        await stage.publish("m", 1)
        stage.shelf.publish("m", 2)
        await stage.refresh()
        stage.workers[0].refuse("m", 2, "damaged")
        stage.workers[1].finish("m", 2)
        await settle()
        assert states(stage) == {1: "ready", 2: "failed"}
        assert stage.answers("m") == 1

    play(story)


def test_a_server_that_starts_beside_a_broken_newest_version_serves_the_one_before() -> None:
    async def story(stage: Stage) -> None:
        stage.shelf.keep["m"] = "latest:1"
        stage.shelf.publish("m", 1)
        stage.shelf.publish("m", 2)
        await stage.refresh()
        for worker in stage.workers:
            worker.refuse("m", 2, "damaged")
        await settle()
        await stage.finish("m", 1)
        assert stage.answers("m") == 1

    play(story)


def test_a_champion_that_cannot_be_loaded_leaves_traffic_where_it_was() -> None:
    async def story(stage: Stage) -> None:
        await stage.publish("m", 1)
        stage.shelf.publish("m", 2)
        await stage.promote("m", "champion", 2)  # the first champion, and it is broken
        for worker in stage.workers:
            worker.refuse("m", 2, "damaged")
        await settle()
        assert stage.answers("m") == 1
        stage.shelf.changes += 1
        await stage.refresh()
        assert stage.answers("m") == 1

    play(story)


def test_a_champion_that_cannot_even_be_read_does_not_unload_the_older_one_that_answers() -> None:
    async def story(stage: Stage) -> None:
        await stage.publish("m", 1)
        await stage.promote("m", "champion", 1)
        stage.shelf.unreadable["m", 2] = "damaged"
        stage.shelf.publish("m", 2)
        await stage.publish("m", 3)
        await stage.publish("m", 4)  # and the latest two are kept without 1
        await stage.promote("m", "champion", 2)
        assert stage.answers("m") == 1
        assert stage.answers("m", alias="champion") == 1

    play(story)


def test_a_version_in_use_is_unloaded_with_its_last_request() -> None:
    async def story(stage: Stage) -> None:
        stage.shelf.keep["m"] = "latest:1"
        await stage.publish("m", 1)
        with stage.using("m", 1), stage.using("m", 1) as entry:
            await stage.publish("m", 2)
            assert stage.answers("m") == 2
            assert entry.state is State.READY
            with pytest.raises(VersionNotLoaded):
                stage.answers("m", number=1)
        assert entry.state is State.UNLOADED
        assert all(worker.unloaded == [("m", 1)] for worker in stage.workers)

    play(story)


@pytest.mark.parametrize("turns", range(6))
def test_a_version_that_goes_while_a_new_worker_begins_to_load_it_is_kept_by_none(turns: int) -> None:
    async def story(stage: Stage) -> None:
        await stage.publish("m", 1)
        newcomer = FakeConnection()
        with stage.using("m", 1):
            await stage.publish("m", 2)
            await stage.publish("m", 3)
            stage.workers.append(newcomer)
            connecting = asyncio.create_task(stage.catalog.on_connect(newcomer))  # type: ignore[arg-type]
            for _ in range(turns):
                await asyncio.sleep(0)
        await settle()
        newcomer.finish_all()
        await connecting
        assert newcomer.loaded == {("m", 2), ("m", 3)}

    play(story)


def test_a_version_that_is_deleted_in_use_answers_what_is_under_way() -> None:
    async def story(stage: Stage) -> None:
        await stage.publish("m", 1)
        await stage.publish("m", 2)
        with stage.using("m", 2):
            stage.shelf.delete("m", 2)
            await stage.refresh()
            assert stage.answers("m") == 1
            assert all(worker.unloaded == [] for worker in stage.workers)
        assert all(worker.unloaded == [("m", 2)] for worker in stage.workers)

    play(story)


def test_a_repository_that_vanishes_takes_nothing_along() -> None:
    async def story(stage: Stage) -> None:
        await stage.publish("m", 1)
        stage.shelf.vanish()
        for _ in range(2):
            with pytest.raises(Exception, match="the model repository has vanished"):
                await stage.refresh()
        assert stage.answers("m") == 1

    play(story)
