"""Models that are served only once they are loaded by their names."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from models.errors import Conflict, ModelNotFound, NotReady, VersionCorrupt, VersionNotLoaded
from service.api.catalog_model import State
from tests.service.api.catalog_stage import FakeConnection, Stage, Story, play, settle

BUDGET = 10


def play_explicit(story: Story, *, load_models: Sequence[str] = (), **options: int) -> None:
    play(story, load_models=load_models, **options)


def states(stage: Stage, name: str = "m") -> dict[int, str]:
    return {number: str(entry.state) for number, entry in stage.catalog.model(name).versions.items()}


async def load(stage: Stage, name: str = "m") -> None:
    """Loads a model; every worker does what it is asked for."""
    loading = asyncio.create_task(stage.catalog.load_model(name))
    while not loading.done():
        for worker in stage.workers:
            worker.finish_all()
        await asyncio.sleep(0)
    await loading


async def begin_to_load(stage: Stage, name: str = "m") -> asyncio.Task[None]:
    """Returns when workers are asked for it, or would be if there were any."""
    loading = asyncio.create_task(stage.catalog.load_model(name))
    while name not in stage.catalog.models or "loading" not in states(stage, name).values():
        await asyncio.sleep(0)
    await settle()
    return loading


def shelve(stage: Stage, *versions: tuple[str, int]) -> None:
    for name, number in versions:
        stage.shelf.publish(name, number)


def test_nothing_is_served_until_it_is_loaded_and_then_what_its_deployment_says() -> None:
    async def story(stage: Stage) -> None:
        shelve(stage, *(("m", number) for number in range(1, 6)), ("other", 1))
        stage.shelf.promote("m", "champion", 1)
        await stage.refresh()
        assert all(worker.asked == [] for worker in stage.workers)
        for reference in ({}, {"number": 5}, {"number": 99}, {"alias": "champion"}):
            with pytest.raises(VersionNotLoaded, match="'m' is not loaded; load it: POST /v2/repository/models/m/load"):
                stage.answers("m", **reference)
        await load(stage)
        assert states(stage) == {1: "ready", 2: "unloaded", 3: "unloaded", 4: "ready", 5: "ready"}
        assert stage.answers("m") == stage.answers("m", alias="champion") == 1
        assert stage.answers("m", number=5) == 5
        with pytest.raises(VersionNotLoaded, match="'other' is not loaded"):
            stage.answers("other")

    play_explicit(story)


def test_a_loaded_model_follows_the_repository_and_one_that_is_not_does_not() -> None:
    async def story(stage: Stage) -> None:
        shelve(stage, ("m", 1), ("other", 1))
        await load(stage)
        await stage.publish("m", 2)
        assert stage.answers("m") == 2
        await stage.promote("m", "champion", 1)
        assert stage.answers("m") == 1
        shelve(stage, ("other", 2))
        await stage.promote("other", "champion", 2)
        assert states(stage, "other") == {1: "unloaded", 2: "unloaded"}
        assert {name for name, _ in stage.workers[0].asked} == {"m"}

    play_explicit(story)


def test_a_load_ends_when_every_worker_serves_what_is_kept() -> None:
    async def story(stage: Stage) -> None:
        shelve(stage, ("m", 1), ("m", 2))
        await stage.refresh()
        loading, again = await begin_to_load(stage), await begin_to_load(stage)
        first, second = stage.workers
        with pytest.raises(NotReady, match="m:2 is being loaded"):
            stage.answers("m")
        first.finish_all()
        second.finish("m", 2)
        await settle()
        assert stage.answers("m") == 2
        assert not loading.done()
        second.finish("m", 1)
        await asyncio.gather(loading, again)
        assert first.asked == second.asked == [("m", 2), ("m", 1)]

    play_explicit(story)


def test_what_is_unloaded_frees_its_memory_and_comes_back_when_it_is_loaded_again() -> None:
    async def story(stage: Stage) -> None:
        shelve(stage, ("m", 1), ("m", 2))
        await load(stage)
        stage.catalog.unload_model("m")
        assert states(stage) == {1: "unloaded", 2: "unloaded"}
        for worker in stage.workers:
            assert (worker.loaded, sorted(worker.unloaded)) == (set(), [("m", 1), ("m", 2)])
        assert stage.metric("graftwork_backbone_bytes") == {(): 0}
        assert stage.metric("graftwork_loaded_versions") == {}
        with pytest.raises(VersionNotLoaded, match="load it"):
            stage.answers("m")
        stage.catalog.unload_model("m")  # once more changes nothing
        await stage.publish("m", 3)
        assert states(stage) == {1: "unloaded", 2: "unloaded", 3: "unloaded"}
        await load(stage)
        assert stage.answers("m") == 3

    play_explicit(story)


def test_requests_under_way_are_answered_by_a_model_that_is_unloaded() -> None:
    async def story(stage: Stage) -> None:
        shelve(stage, ("m", 1))
        await load(stage)
        with stage.using("m", 1) as entry:
            stage.catalog.unload_model("m")
            with pytest.raises(VersionNotLoaded, match="load it"):
                stage.answers("m", number=1)
            assert entry.state is State.READY
            await stage.catalog.load(entry)
            assert all(worker.unloaded == [] for worker in stage.workers)
        assert states(stage) == {1: "unloaded"}
        assert all(worker.unloaded == [("m", 1)] for worker in stage.workers)

    play_explicit(story)


def test_a_model_that_is_loaded_again_while_its_last_request_is_under_way_stays() -> None:
    async def story(stage: Stage) -> None:
        shelve(stage, ("m", 1))
        await load(stage)
        with stage.using("m", 1):
            stage.catalog.unload_model("m")
            await stage.catalog.load_model("m")
            assert stage.answers("m") == 1
        assert stage.answers("m") == 1
        assert all(worker.asked == [("m", 1)] and worker.unloaded == [] for worker in stage.workers)

    play_explicit(story)


def test_a_model_that_is_unloaded_while_it_is_loaded_is_not_loaded() -> None:
    async def story(stage: Stage) -> None:
        shelve(stage, ("m", 1), ("m", 2))
        await stage.refresh()
        loading = await begin_to_load(stage)
        stage.workers[0].finish_all()
        await settle()
        stage.catalog.unload_model("m")
        with pytest.raises(Conflict, match="'m' was unloaded while it was being loaded"):
            await loading
        await settle()
        assert states(stage) == {1: "unloaded", 2: "unloaded"}
        assert all(worker.loaded == set() for worker in stage.workers)
        assert stage.metric("graftwork_backbone_bytes") == {(): 0}
        await load(stage)
        assert stage.answers("m") == 2

    play_explicit(story)


def test_where_the_newest_cannot_be_loaded_the_one_before_answers() -> None:
    async def story(stage: Stage) -> None:
        stage.shelf.keep["m"] = "latest:1"
        shelve(stage, ("m", 1), ("m", 2))
        for worker in stage.workers:
            worker.refuse("m", 2, "damaged")
        await load(stage)
        assert stage.answers("m") == 1

    play_explicit(story)


def test_a_load_that_cannot_be_served_says_why_and_leaves_nothing_loaded() -> None:
    async def story(stage: Stage) -> None:
        shelve(stage, ("m", 1), ("m", 2))
        await stage.promote("m", "champion", 2)
        stage.workers[0].refuse("m", 2, "damaged")
        with pytest.raises(VersionCorrupt, match="m:2 is not served: damaged"):
            await load(stage)
        assert states(stage) == {1: "unloaded", 2: "failed"}
        assert all(worker.loaded == set() for worker in stage.workers)
        with pytest.raises(VersionNotLoaded, match="load it"):
            stage.answers("m", number=1)
        await load(stage)  # it is tried again, though nothing has changed on disk
        assert stage.answers("m") == 2

    play_explicit(story)


def test_a_model_that_is_loaded_stays_so_when_it_is_loaded_again_in_vain() -> None:
    async def story(stage: Stage) -> None:
        shelve(stage, ("m", 1))
        await stage.promote("m", "champion", 1)
        await load(stage)
        shelve(stage, ("m", 2))
        await stage.promote("m", "champion", 2)
        for worker in stage.workers:
            worker.refuse("m", 2, "damaged")
        await settle()
        assert stage.answers("m") == 1
        stage.workers[0].refuse = stage.workers[0].finish  # type: ignore[assignment]
        await load(stage)
        assert stage.answers("m") == 2

    play_explicit(story)


def test_a_load_that_is_given_up_leaves_nothing_loaded() -> None:
    async def story(stage: Stage) -> None:
        shelve(stage, ("m", 1))
        await stage.refresh()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await stage.catalog.load_model("m")
        assert states(stage) == {1: "unloaded"}
        assert stage.metric("graftwork_backbone_bytes") == {(): 0}

    play_explicit(story, workers=0)


def test_a_load_that_is_given_up_does_not_take_another_one_along() -> None:
    async def story(stage: Stage) -> None:
        shelve(stage, ("m", 1))
        first = await begin_to_load(stage)
        second = await begin_to_load(stage)
        while len(stage.catalog._loads["m"]) < 2:
            await asyncio.sleep(0.001)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        stage.workers[0].finish_all()
        await second
        assert stage.answers("m") == 1
        assert not stage.catalog._loads

    play_explicit(story, workers=1)


def test_a_load_without_a_worker_ends_when_one_has_come() -> None:
    async def story(stage: Stage) -> None:
        shelve(stage, ("m", 1))
        loading = await begin_to_load(stage)
        newcomer = FakeConnection()
        newcomer.finish("m", 1)
        stage.workers.append(newcomer)
        await stage.catalog.on_connect(newcomer)  # type: ignore[arg-type]
        await loading
        assert stage.answers("m") == 1

    play_explicit(story, workers=0)


def test_a_model_that_is_deleted_while_it_is_loaded_is_unknown() -> None:
    async def story(stage: Stage) -> None:
        shelve(stage, ("m", 1))
        await stage.refresh()
        loading = await begin_to_load(stage)
        stage.shelf.delete("m", 1)
        await stage.refresh()
        with pytest.raises(ModelNotFound):
            await loading
        await stage.publish("m", 2)
        assert states(stage) == {2: "unloaded"}

    play_explicit(story)


def test_a_policy_that_keeps_nothing_is_no_load() -> None:
    async def story(stage: Stage) -> None:
        shelve(stage, ("m", 1))
        stage.shelf.keep["m"] = "7"
        with pytest.raises(VersionNotLoaded, match="m:1 is not kept loaded, but 7 and what has an alias"):
            await load(stage)

    play_explicit(story)


def test_unknown_models_are_neither_loaded_nor_unloaded() -> None:
    async def story(stage: Stage) -> None:
        shelve(stage, ("flowers", 1))
        with pytest.raises(ModelNotFound, match="did you mean 'flowers'"):
            await stage.catalog.load_model("flower")
        with pytest.raises(ModelNotFound):
            stage.catalog.unload_model("flower")
        await stage.publish("flower", 1)
        assert states(stage, "flower") == {1: "unloaded"}

    play_explicit(story)


def test_a_promotion_of_a_model_that_is_not_loaded_looks_whether_it_could_be() -> None:
    async def story(stage: Stage) -> None:
        shelve(stage, ("m", 1))
        await stage.refresh()
        with stage.catalog.hold("m", 1) as entry:
            loading = asyncio.create_task(stage.catalog.load(entry))
            await settle()
            stage.catalog.unload_model("m")  # does not take it out of the operator's hands
            await stage.finish("m", 1)
            await loading
            with pytest.raises(VersionNotLoaded):
                stage.answers("m")
        assert states(stage) == {1: "unloaded"}
        assert all(worker.loaded == set() for worker in stage.workers)

    play_explicit(story)


def test_a_loaded_model_lives_under_the_budget_like_any_other() -> None:
    async def story(stage: Stage) -> None:
        for name in ("a", "b"):
            stage.shelf.backbone_of[name, 1], stage.shelf.bytes_of[f"of {name}"] = f"of {name}", 6
            stage.shelf.publish(name, 1)
        await load(stage, "a")
        await load(stage, "b")
        assert (states(stage, "a"), states(stage, "b")) == ({1: "on-demand"}, {1: "ready"})
        await load(stage, "a")  # its next request would bring it back
        assert stage.answers("a") == 1
        stage.catalog.unload_model("a")
        assert states(stage, "a") == {1: "unloaded"}
        assert stage.metric("graftwork_backbone_bytes") == {(): 6}

    play_explicit(story, budget_bytes=BUDGET)


def test_a_server_begins_with_the_models_that_it_was_given(caplog: pytest.LogCaptureFixture) -> None:
    async def story(stage: Stage) -> None:
        shelve(stage, ("m", 1), ("other", 1))
        await stage.refresh()
        assert stage.workers[0].asked == [("m", 1)]
        await stage.finish("m", 1)
        assert stage.answers("m") == 1
        await stage.publish("others", 1)
        assert stage.answers("others") == 1

    play_explicit(story, load_models=("m", "others"))
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["there is no model 'others' yet; it is loaded once it appears; did you mean 'other'?"]


def test_a_server_may_begin_with_all_that_are_there(caplog: pytest.LogCaptureFixture) -> None:
    async def story(stage: Stage) -> None:
        shelve(stage, ("a", 1), ("b", 1))
        await stage.refresh()
        assert sorted(stage.workers[0].asked) == [("a", 1), ("b", 1)]
        stage.catalog.unload_model("a")
        await stage.publish("c", 1)
        assert (states(stage, "a"), states(stage, "c")) == ({1: "unloaded"}, {1: "unloaded"})

    play_explicit(story, load_models=("*",))
    assert "there is no model" not in caplog.text


def test_without_a_loaded_model_a_server_is_ready() -> None:
    async def story(stage: Stage) -> None:
        (worker,) = stage.workers
        shelve(stage, ("m", 1))
        await stage.refresh()
        await stage.catalog.on_connect(worker)  # type: ignore[arg-type]
        worker.settled = True
        assert worker.asked == []
        assert stage.catalog.not_ready_reason() is None

    play_explicit(story, workers=1)


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_loads_and_unloads_ends_with_what_was_asked_for_last(seed: int) -> None:
    """And at no time does a worker hold what nobody keeps and nobody uses, or an answer come from what is not loaded."""

    async def story(stage: Stage) -> None:
        order = random.Random(seed)
        shelve(stage, ("m", 1), ("m", 2), ("m", 3))
        stage.shelf.promote("m", "champion", 1)
        await stage.refresh()
        loads: list[asyncio.Task[None]] = []
        held = []
        for _ in range(300):
            act = order.randrange(8)
            if act == 0:
                loads.append(asyncio.create_task(stage.catalog.load_model("m")))
            elif act == 1:
                stage.catalog.unload_model("m")
            elif act == 2:
                order.choice(stage.workers).finish_all()
            elif act == 3 and held:
                held.pop().__exit__()
            elif act == 4:
                is_wanted = stage.catalog.model("m").is_wanted
                try:
                    hold = stage.using("m", order.choice((1, 2, 3)))
                except (NotReady, VersionNotLoaded):
                    continue
                assert is_wanted
                entry = hold.__enter__()
                assert all(("m", entry.number) in worker.loaded for worker in stage.workers)
                held.append(hold)
            else:
                await settle()
            for entry in stage.catalog.model("m").versions.values():
                if not stage.catalog.model("m").is_wanted and not entry.users:
                    assert entry.state is State.UNLOADED
                    if any(("m", entry.number) in worker.loaded for worker in stage.workers):
                        await settle()  # a load that was on its way when it was taken back is let go once it ends
                    if not stage.catalog.model("m").is_wanted:
                        assert not any(("m", entry.number) in worker.loaded for worker in stage.workers)
        while held:
            held.pop().__exit__()
        await load(stage)
        assert states(stage) == {1: "ready", 2: "ready", 3: "ready"}
        assert {type(error) for error in await asyncio.gather(*loads, return_exceptions=True)} <= {type(None), Conflict}
        assert stage.answers("m") == 1
        stage.catalog.unload_model("m")
        assert stage.metric("graftwork_backbone_bytes") == {(): 0}
        assert all(worker.loaded == set() for worker in stage.workers)

    play_explicit(story)
