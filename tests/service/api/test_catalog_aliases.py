"""Which version answers where none is named, and where an alias is."""

from __future__ import annotations

import pytest

from models.errors import VersionNotFound
from tests.service.api.catalog_stage import Stage, play, settle


def test_champion_goes_before_the_newest() -> None:
    async def story(stage: Stage) -> None:
        await stage.publish("m", 1)
        await stage.publish("m", 2)
        assert stage.answers("m") == 2
        await stage.promote("m", "champion", 1)
        assert stage.answers("m") == 1
        assert stage.answers("m", alias="champion") == 1
        await stage.publish("m", 3)
        assert stage.answers("m") == 1
        await stage.promote("m", "champion", 3)
        assert stage.answers("m") == 3

    play(story)


def test_an_alias_stays_where_it_was_until_its_new_version_is_ready() -> None:
    async def story(stage: Stage) -> None:
        await stage.publish("m", 1)
        await stage.promote("m", "champion", 1)
        stage.shelf.publish("m", 2)
        await stage.promote("m", "champion", 2)
        assert stage.answers("m") == stage.answers("m", alias="champion") == 1
        await stage.finish("m", 2)
        assert stage.answers("m") == stage.answers("m", alias="champion") == 2

    play(story)


def test_an_alias_that_was_moved_to_a_damaged_version_stays_where_it_was() -> None:
    async def story(stage: Stage) -> None:
        await stage.publish("m", 1)
        await stage.promote("m", "champion", 1)
        stage.shelf.publish("m", 2)
        await stage.promote("m", "champion", 2)
        stage.workers[0].refuse("m", 2, "damaged")
        stage.workers[1].finish("m", 2)
        await settle()
        assert stage.answers("m") == 1

    play(story)


def test_an_alias_that_is_gone_leads_nowhere() -> None:
    async def story(stage: Stage) -> None:
        await stage.publish("m", 1)
        await stage.promote("m", "canary", 1)
        assert stage.answers("m", alias="canary") == 1
        with pytest.raises(VersionNotFound, match="did you mean 'canary'"):
            stage.answers("m", alias="canari")
        stage.shelf.aliases.clear()
        stage.shelf.changes += 1
        await stage.refresh()
        with pytest.raises(VersionNotFound):
            stage.answers("m", alias="canary")

    play(story)


def test_damaged_aliases_stay_as_they_were() -> None:
    async def story(stage: Stage) -> None:
        await stage.publish("m", 1)
        await stage.promote("m", "champion", 1)
        stage.shelf.unreadable_aliases = ("m",)
        await stage.publish("m", 2)
        assert stage.answers("m") == 1

    play(story)
