from __future__ import annotations

import asyncio

import pytest

from models.errors import ModelNotFound, NotReady, VersionCorrupt, VersionNotFound
from service.api import catalog as catalog_module
from service.api.catalog_model import CatalogModel, State
from tests.service.api.catalog_stage import FakeConnection, Stage, play, settle


def test_traffic_flips_only_when_every_worker_has_the_version() -> None:
    async def story(stage: Stage) -> None:
        await stage.publish("m", 1)
        stage.shelf.publish("m", 2)
        await stage.refresh()
        assert [worker.asked for worker in stage.workers] == [[("m", 1), ("m", 2)]] * 2
        assert stage.answers("m") == 1
        stage.workers[0].finish("m", 2)
        await settle()
        assert stage.answers("m") == 1
        with pytest.raises(NotReady, match="m:2 is being loaded"):
            stage.answers("m", number=2)
        stage.workers[1].finish("m", 2)
        await settle()
        assert stage.answers("m") == 2
        assert stage.answers("m", number=1) == 1
        assert stage.metric("graftwork_loaded_versions") == {("m", "1"): 1, ("m", "2"): 1}

    play(story)


def test_a_load_that_fails_anywhere_keeps_the_old_version_and_says_why() -> None:
    async def story(stage: Stage) -> None:
        await stage.publish("m", 1)
        stage.shelf.publish("m", 2)
        await stage.refresh()
        stage.workers[0].finish("m", 2)
        stage.workers[1].refuse("m", 2, "its head is damaged")
        await settle()
        assert stage.answers("m") == 1
        with pytest.raises(VersionCorrupt, match="m:2 is not served: its head is damaged"):
            stage.answers("m", number=2)
        entry = stage.catalog.model("m").versions[2]
        assert (entry.state, entry.reason) == (State.FAILED, "its head is damaged")
        assert stage.catalog.failed() == [("m", "2")]
        assert all(("m", 2) in worker.unloaded for worker in stage.workers)
        assert stage.metric("graftwork_load_failures_total") == {("m",): 1}
        assert stage.metric("graftwork_loaded_versions") == {("m", "1"): 1}

    play(story)


def test_a_version_that_failed_gets_another_try_when_something_changes() -> None:
    async def story(stage: Stage) -> None:
        stage.shelf.publish("m", 1)
        await stage.refresh()
        for worker in stage.workers:
            worker.refuse("m", 1, "out of memory")
        await settle()
        assert stage.catalog.model("m").versions[1].state is State.FAILED
        for worker in stage.workers:
            worker._ends.clear()
        stage.shelf.publish("other", 1)
        await stage.refresh()
        for worker in stage.workers:
            worker.finish("m", 1)
        await settle()
        assert stage.answers("m") == 1

    play(story)


def test_an_unreadable_manifest_is_listed_with_its_reason_and_never_loaded() -> None:
    async def story(stage: Stage) -> None:
        stage.shelf.unreadable["m", 2] = "the manifest of m:2 is damaged"
        stage.shelf.publish("m", 2)
        await stage.publish("m", 1)
        assert stage.answers("m") == 1
        with pytest.raises(VersionCorrupt, match="m:2 is not served: the manifest of m:2 is damaged"):
            stage.answers("m", number=2)
        assert stage.workers[0].asked == [("m", 1)]
        assert stage.metric("graftwork_load_failures_total") == {("m",): 1}

    play(story)


def test_a_new_worker_loads_everything_that_is_served_or_on_its_way() -> None:
    async def story(stage: Stage) -> None:
        await stage.publish("m", 1)
        stage.shelf.publish("m", 2)
        stage.shelf.publish("m", 3)
        await stage.refresh()
        stage.workers[0].refuse("m", 3, "damaged")
        await settle()
        newcomer = FakeConnection()
        stage.workers.append(newcomer)
        connecting = asyncio.create_task(stage.catalog.on_connect(newcomer))  # type: ignore[arg-type]
        await settle()
        assert sorted(newcomer.asked) == [("m", 1), ("m", 2)]
        assert not connecting.done()
        newcomer.finish("m", 1)
        newcomer.finish("m", 2)
        await connecting

    play(story, workers=1)


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_new_worker_that_is_quicker_does_not_flip_traffic_for_the_others(is_lost: bool) -> None:
    async def story(stage: Stage) -> None:
        await stage.publish("m", 1)
        (old,) = stage.workers
        old.settled = True
        stage.shelf.publish("m", 2)
        await stage.refresh()
        newcomer = FakeConnection()
        stage.workers.append(newcomer)
        newcomer.finish("m", 1)
        newcomer.finish("m", 2)
        await stage.catalog.on_connect(newcomer)  # type: ignore[arg-type]
        assert stage.answers("m") == 1
        if is_lost:
            stage.workers.remove(old)
            old.break_off("m", 2)
        else:
            old.finish("m", 2)
        await settle()
        assert stage.answers("m") == 2

    play(story, workers=1)


def test_a_worker_that_connects_before_the_first_look_waits_for_it() -> None:
    async def story(stage: Stage) -> None:
        (worker,) = stage.workers
        connecting = asyncio.create_task(stage.catalog.on_connect(worker))  # type: ignore[arg-type]
        await settle()
        assert not connecting.done()
        assert stage.catalog.not_ready_reason() == "the model repository is being read"
        with pytest.raises(NotReady):
            stage.answers("m")
        await stage.publish("m", 1)
        await connecting
        assert stage.answers("m") == 1

    play(story, workers=1)


def test_a_version_published_without_workers_is_ready_once_one_connects() -> None:
    async def story(stage: Stage) -> None:
        stage.shelf.publish("m", 1)
        await stage.refresh()
        with pytest.raises(NotReady):
            stage.answers("m")
        newcomer = FakeConnection()
        stage.workers.append(newcomer)
        newcomer.finish("m", 1)
        await stage.catalog.on_connect(newcomer)  # type: ignore[arg-type]
        assert stage.answers("m") == 1

    play(story, workers=0)


def test_a_worker_lost_while_loading_does_not_decide_for_the_others() -> None:
    async def story(stage: Stage) -> None:
        stage.shelf.publish("m", 1)
        await stage.refresh()
        stage.workers[0].break_off("m", 1)
        stage.workers[1].finish("m", 1)
        await settle()
        assert stage.answers("m") == 1

    play(story)


def test_a_load_that_all_workers_were_lost_in_is_still_on_its_way() -> None:
    async def story(stage: Stage) -> None:
        stage.shelf.publish("m", 1)
        await stage.refresh()
        stage.workers[0].break_off("m", 1)
        await settle()
        assert stage.catalog.model("m").versions[1].state is State.LOADING
        stage.workers[:] = [FakeConnection()]
        stage.workers[0].finish("m", 1)
        await stage.catalog.on_connect(stage.workers[0])  # type: ignore[arg-type]
        assert stage.answers("m") == 1

    play(story, workers=1)


def test_a_new_worker_that_refuses_a_version_does_not_take_it_from_the_others() -> None:
    async def story(stage: Stage) -> None:
        await stage.publish("m", 1)
        newcomer = FakeConnection()
        stage.workers.append(newcomer)
        newcomer.refuse("m", 1, "the disk has rotted")
        await stage.catalog.on_connect(newcomer)  # type: ignore[arg-type]
        assert stage.answers("m") == 1
        assert ("m", 1) not in stage.workers[0].unloaded
        assert stage.metric("graftwork_load_failures_total") == {("m",): 1}

    play(story, workers=1)


def test_a_version_that_its_last_worker_refuses_has_failed() -> None:
    async def story(stage: Stage) -> None:
        await stage.publish("m", 1)
        stage.workers[:] = [FakeConnection()]
        stage.workers[0].refuse("m", 1, "the disk has rotted")
        await stage.catalog.on_connect(stage.workers[0])  # type: ignore[arg-type]
        with pytest.raises(VersionCorrupt, match="rotted"):
            stage.answers("m")

    play(story, workers=1)


def test_a_deleted_version_is_unloaded_and_unknown() -> None:
    async def story(stage: Stage) -> None:
        await stage.publish("m", 1)
        await stage.publish("m", 2)
        stage.shelf.delete("m", 2)
        await stage.refresh()
        assert stage.answers("m") == 1
        with pytest.raises(VersionNotFound):
            stage.answers("m", number=2)
        assert all(worker.unloaded == [("m", 2)] for worker in stage.workers)
        assert stage.metric("graftwork_loaded_versions") == {("m", "1"): 1}
        stage.shelf.delete("m", 1)
        await stage.refresh()
        with pytest.raises(ModelNotFound):
            stage.answers("m")

    play(story)


def test_a_version_deleted_while_it_is_loaded_does_not_come_back() -> None:
    async def story(stage: Stage) -> None:
        await stage.publish("m", 1)
        stage.shelf.publish("m", 2)
        await stage.refresh()
        stage.shelf.delete("m", 2)
        await stage.refresh()
        await stage.finish("m", 2)
        assert stage.answers("m") == 1
        assert stage.metric("graftwork_loaded_versions") == {("m", "1"): 1}

    play(story)


def test_unknown_names_get_near_matches() -> None:
    async def story(stage: Stage) -> None:
        await stage.publish("flowers", 1)
        with pytest.raises(ModelNotFound, match="did you mean 'flowers'"):
            stage.answers("flower")
        with pytest.raises(VersionNotFound, match="no version 9 of 'flowers'"):
            stage.answers("flowers", number=9)

    play(story)


def test_a_server_is_ready_when_one_worker_has_loaded_everything() -> None:
    async def story(stage: Stage) -> None:
        (worker,) = stage.workers
        stage.shelf.publish("m", 1)
        stage.shelf.publish("m", 2)
        await stage.refresh()
        worker.finish("m", 1)
        await settle()
        assert stage.catalog.not_ready_reason() == "models are being loaded: 1 of 2 versions are done"
        worker.settled = True
        assert stage.catalog.not_ready_reason() is None
        stage.workers.clear()
        assert stage.catalog.not_ready_reason() == "no engine worker is connected"

    play(story, workers=1)


def test_an_empty_repository_is_ready() -> None:
    async def story(stage: Stage) -> None:
        (worker,) = stage.workers
        await stage.refresh()
        await stage.catalog.on_connect(worker)  # type: ignore[arg-type]
        worker.settled = True
        assert stage.catalog.not_ready_reason() is None
        assert stage.catalog.models == {}

    play(story, workers=1)


def test_nothing_is_read_while_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(stage: Stage) -> None:
        await stage.publish("m", 1)
        monkeypatch.setattr(stage.shelf, "all_numbers", lambda: pytest.fail("read again"))
        await stage.refresh()

    play(story)


def test_models_that_are_as_they_were_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[CatalogModel] = []
    reroute = CatalogModel.reroute

    def noted(self: CatalogModel, before: CatalogModel) -> None:
        looked_at.append(self)
        reroute(self, before)

    async def story(stage: Stage) -> None:
        await stage.publish("still", 1)
        await stage.publish("busy", 1)
        still = stage.catalog.model("still")
        monkeypatch.setattr(CatalogModel, "reroute", noted)
        await stage.publish("busy", 2)
        await stage.promote("busy", "stable", 1)
        assert looked_at
        assert still not in looked_at
        assert stage.catalog.model("still") is still
        assert (stage.answers("still"), stage.answers("busy"), stage.answers("busy", alias="stable")) == (1, 2, 1)
        await stage.promote("still", "stable", 1)
        assert stage.answers("still", alias="stable") == 1

    play(story)


def test_what_was_taken_in_by_half_is_taken_in_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(stage: Stage) -> None:
        stage.shelf.publish("first", 1)
        stage.shelf.publish("second", 1)
        with monkeypatch.context() as patched:
            patched.setattr(stage.catalog, "_settle", lambda model, eager: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await stage.refresh()
        await stage.refresh()
        assert stage.workers[0].asked == [("first", 1), ("second", 1)]

    play(story)


def test_what_is_served_survives_a_repository_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "POLL_SECONDS", 0)

    async def story(stage: Stage) -> None:
        def stale_handle() -> bytes:
            stage.shelf.changes += 1
            raise OSError(116, "Stale file handle")

        await stage.publish("m", 1)
        with monkeypatch.context() as patched:
            patched.setattr(stage.shelf, "generation", stale_handle)
            before = stage.shelf.changes
            following = asyncio.create_task(stage.catalog.follow())
            async with asyncio.timeout(30):
                while stage.shelf.changes < before + 3:
                    await asyncio.sleep(0)
            assert stage.answers("m") == 1
        stage.shelf.publish("m", 2)
        async with asyncio.timeout(30):
            while ("m", 2) not in stage.workers[0].asked:
                await asyncio.sleep(0)
        following.cancel()

    play(story)
