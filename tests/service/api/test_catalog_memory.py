"""Backbones of their own live under a budget: what was not used for longest goes, and comes back when it is asked for."""

from __future__ import annotations

import asyncio

import pytest

from models.errors import NotReady, VersionCorrupt
from service.api.catalog_model import CatalogVersion, State
from tests.service.api.catalog_stage import FakeConnection, Stage, play, settle

BUDGET = 10


def states(stage: Stage) -> dict[str, str]:
    return {name: str(model.versions[1].state) for name, model in stage.catalog.models.items()}


async def publish(stage: Stage, **sizes: int) -> None:
    """One version of each model, on a backbone of its own."""
    for name, size in sizes.items():
        stage.shelf.backbone_of[name, 1], stage.shelf.bytes_of[f"of {name}"] = f"of {name}", size
        await stage.publish(name, 1)


async def ask(stage: Stage, name: str) -> CatalogVersion:
    with stage.using(name, 1) as entry:
        await stage.catalog.load(entry)
        assert all((name, 1) in worker.loaded for worker in stage.workers)
        return entry


def test_what_was_not_used_for_longest_goes_and_comes_back_with_a_request() -> None:
    async def story(stage: Stage) -> None:
        await publish(stage, a=5, b=5)
        await ask(stage, "b")
        await ask(stage, "a")
        await publish(stage, c=5)
        assert states(stage) == {"a": "ready", "b": "on-demand", "c": "ready"}
        assert ("b", 1) not in stage.metric("graftwork_loaded_versions")

        asking = asyncio.create_task(ask(stage, "b"))
        second = asyncio.create_task(ask(stage, "b"))
        await settle()
        assert states(stage) == {"a": "ready", "b": "on-demand", "c": "on-demand"}  # nobody has ever asked for c
        assert not asking.done()
        for worker in stage.workers:
            worker.finish("b", 1)
        await asyncio.gather(asking, second)
        assert states(stage)["b"] == "ready"
        assert stage.metric("graftwork_evictions_total") == {("a",): 0, ("b",): 1, ("c",): 1}
        assert stage.metric("graftwork_on_demand_loads_total") == {("a",): 0, ("b",): 1, ("c",): 0}
        assert stage.metric("graftwork_backbone_bytes") == {(): 10}
        assert stage.metric("graftwork_backbone_budget_bytes") == {(): BUDGET}

    play(story, budget_bytes=BUDGET)


def test_versions_on_one_backbone_cost_it_once_and_go_together() -> None:
    async def story(stage: Stage) -> None:
        for name in ("a", "b", "c"):
            stage.shelf.backbone_of[name, 1] = "shared"
        stage.shelf.bytes_of["shared"] = 6
        for name in ("a", "b", "c"):
            await stage.publish(name, 1)
        assert set(states(stage).values()) == {"ready"}
        assert stage.metric("graftwork_backbone_bytes") == {(): 6}
        await publish(stage, d=6)
        assert states(stage) == {"a": "on-demand", "b": "on-demand", "c": "on-demand", "d": "ready"}

    play(story, budget_bytes=BUDGET)


def test_what_is_in_use_stays_and_whoever_needs_its_memory_waits() -> None:
    async def story(stage: Stage) -> None:
        await publish(stage, a=5, b=5)
        with stage.using("a", 1), stage.using("b", 1):
            stage.shelf.backbone_of["c", 1], stage.shelf.bytes_of["of c"] = "of c", 5
            stage.shelf.publish("c", 1)
            await stage.refresh()
            assert states(stage) == {"a": "ready", "b": "ready", "c": "loading"}
            assert ("c", 1) not in stage.workers[0].asked
        await settle()
        await stage.finish("c", 1)
        assert sorted(states(stage).values()) == ["on-demand", "ready", "ready"]
        assert states(stage)["c"] == "ready"

    play(story, budget_bytes=BUDGET)


def test_memory_that_is_freed_before_anybody_waits_for_it_is_not_missed() -> None:
    async def story(stage: Stage) -> None:
        await publish(stage, a=5, b=5)
        stage.shelf.backbone_of["c", 1], stage.shelf.bytes_of["of c"] = "of c", 5
        with stage.using("a", 1), stage.using("b", 1):
            stage.shelf.publish("c", 1)
            await stage.catalog.refresh()  # and in the same turn of the event loop both requests end
        await settle()
        assert ("c", 1) in stage.workers[0].asked

    play(story, budget_bytes=BUDGET)


def test_what_waits_for_memory_gets_that_of_a_version_that_was_being_loaded() -> None:
    async def story(stage: Stage) -> None:
        await publish(stage, a=1)
        for name in ("b", "c"):
            stage.shelf.backbone_of[name, 1], stage.shelf.bytes_of[f"of {name}"] = f"of {name}", 6
            stage.shelf.publish(name, 1)
        await stage.refresh()
        assert states(stage) == {"a": "ready", "b": "loading", "c": "loading"}
        await stage.finish("b", 1)
        await stage.finish("c", 1)
        assert states(stage)["c"] == "ready"

    play(story, budget_bytes=BUDGET)


def test_a_version_that_is_deleted_while_it_waits_for_memory_takes_none() -> None:
    async def story(stage: Stage) -> None:
        await publish(stage, a=5, b=5)
        stage.shelf.backbone_of["c", 1], stage.shelf.bytes_of["of c"] = "of c", 5
        with stage.using("a", 1), stage.using("b", 1):
            stage.shelf.publish("c", 1)
            await stage.refresh()
            stage.shelf.delete("c", 1)
            await stage.refresh()
        await settle()
        assert ("c", 1) not in stage.workers[0].asked
        assert states(stage) == {"a": "ready", "b": "ready"}

    play(story, budget_bytes=BUDGET)


def test_a_version_that_nobody_is_led_to_goes_before_one_that_answers() -> None:
    async def story(stage: Stage) -> None:
        for number in (1, 2):
            stage.shelf.backbone_of["m", number] = f"of {number}"
            stage.shelf.bytes_of[f"of {number}"] = 5
            await stage.publish("m", number)
        with stage.using("m", 1):
            pass
        await publish(stage, other=5)
        versions = stage.catalog.model("m").versions
        assert [versions[1].state, versions[2].state] == [State.ON_DEMAND, State.READY]

    play(story, budget_bytes=BUDGET)


def test_at_the_start_what_has_no_room_waits_for_its_first_request() -> None:
    async def story(stage: Stage) -> None:
        for name in ("a", "b", "c"):
            stage.shelf.backbone_of[name, 1], stage.shelf.bytes_of[f"of {name}"] = f"of {name}", 5
            stage.shelf.publish(name, 1)
        await stage.refresh()
        assert stage.workers[0].asked == [("a", 1), ("b", 1)]
        assert states(stage) == {"a": "loading", "b": "loading", "c": "on-demand"}

    play(story, budget_bytes=BUDGET)


def test_a_backbone_beyond_the_whole_budget_is_refused_with_the_cure() -> None:
    async def story(stage: Stage) -> None:
        await publish(stage, a=5)
        stage.shelf.backbone_of["huge", 1], stage.shelf.bytes_of["of huge"] = "of huge", 11 << 20
        stage.shelf.publish("huge", 1)
        await stage.refresh()
        with pytest.raises(VersionCorrupt, match="its backbone has 11 MiB; raise --backbone-memory"):
            stage.answers("huge")
        assert states(stage)["a"] == "ready"

    play(story, budget_bytes=BUDGET)


def test_a_version_that_cannot_be_brought_back_says_why() -> None:
    async def story(stage: Stage) -> None:
        await publish(stage, a=6, b=6)
        for worker in stage.workers:
            worker.refuse("a", 1, "the disk has rotted")
        with pytest.raises(VersionCorrupt, match="a:1 is not served: the disk has rotted"):
            await ask(stage, "a")
        assert states(stage)["a"] == "failed"
        assert stage.metric("graftwork_backbone_bytes") == {(): 0}  # the other one went for it, and comes back
        for worker in stage.workers:
            worker.finish("b", 1)
        await ask(stage, "b")

    play(story, budget_bytes=BUDGET)


def test_without_a_worker_nothing_comes_back_and_nothing_is_held_for_it() -> None:
    async def story(stage: Stage) -> None:
        await publish(stage, a=6, b=6)
        stage.workers.clear()
        with pytest.raises(NotReady, match="a:1 cannot be loaded right now; try again"):
            await ask(stage, "a")
        assert states(stage)["a"] == "on-demand"
        assert stage.metric("graftwork_backbone_bytes") == {(): 0}

    play(story, budget_bytes=BUDGET)


def test_a_request_that_gives_up_leaves_the_load_to_others() -> None:
    async def story(stage: Stage) -> None:
        await publish(stage, a=6, b=6)
        impatient, patient = (asyncio.create_task(ask(stage, "a")) for _ in range(2))
        await settle()
        impatient.cancel()
        await settle()
        for worker in stage.workers:
            worker.finish("a", 1)
        assert (await patient).state is State.READY
        assert impatient.cancelled()

    play(story, budget_bytes=BUDGET)


def test_a_new_worker_that_was_loading_what_had_to_go_does_not_keep_it_from_coming_back() -> None:
    async def story(stage: Stage) -> None:
        await publish(stage, a=5, b=5)
        newcomer = FakeConnection()
        stage.workers.append(newcomer)
        connecting = asyncio.create_task(stage.catalog.on_connect(newcomer))  # type: ignore[arg-type]
        await settle()
        with stage.using("b", 1):
            stage.shelf.backbone_of["c", 1], stage.shelf.bytes_of["of c"] = "of c", 5
            stage.shelf.publish("c", 1)
            await stage.catalog.refresh()
        assert states(stage) == {"a": "on-demand", "b": "ready", "c": "loading"}
        asking = asyncio.create_task(ask(stage, "a"))  # in the same turn of the event loop
        await settle()
        await stage.finish("a", 1)
        await asking
        assert states(stage) == {"a": "ready", "b": "on-demand", "c": "loading"}
        await connecting

    play(story, budget_bytes=BUDGET)


@pytest.mark.parametrize("lost", ["old", "new"])
def test_a_worker_lost_while_another_one_loads_the_same_leaves_the_account_of_memory_right(lost: str) -> None:
    async def story(stage: Stage) -> None:
        await publish(stage, a=6, b=6)
        asking = asyncio.create_task(ask(stage, "a"))
        await settle()
        newcomer = FakeConnection()
        stage.workers.append(newcomer)
        connecting = asyncio.create_task(stage.catalog.on_connect(newcomer))  # type: ignore[arg-type]
        await settle()
        gone = stage.workers.pop(0 if lost == "old" else 1)
        (left,) = stage.workers
        unloaded = len(left.unloaded)
        gone.break_off("a", 1)
        await settle()
        if len(left.unloaded) == unloaded:  # its own load goes on
            left.finish("a", 1)
        await asyncio.gather(connecting, asking, return_exceptions=True)
        assert (states(stage)["a"] == "ready") == (("a", 1) in left.loaded)
        assert stage.metric("graftwork_backbone_bytes") == {(): 6 if left.loaded else 0}

    play(story, workers=1, budget_bytes=BUDGET)
