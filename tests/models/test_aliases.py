"""Aliases are moved by compare-and-swap, to intact versions only, and back."""

from __future__ import annotations

import multiprocessing
import os
from contextlib import suppress
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from models.aliases import UNSET, Expected, promote, rollback, unalias
from models.deployment import CHAMPION
from models.errors import Conflict, ModelNotFound, PromotionRefused, VersionInUse, VersionNotFound
from models.repository import ModelRepository
from models.version import Reference
from tests.models.versions import BACKBONE, leftovers, parse, publish


@pytest.fixture
def flowers(repository: ModelRepository) -> ModelRepository:
    """Three versions, and no alias."""
    for _ in range(3):
        publish(repository)
    return repository


def champion(repository: ModelRepository) -> int | None:
    return repository.deployment("flowers").aliases.get(CHAMPION)


def test_a_change_says_what_was_and_what_is(flowers: ModelRepository) -> None:
    assert str(promote(flowers, parse("flowers:1"))) == "flowers@champion is now flowers:1"
    assert str(promote(flowers, parse("flowers:3"))) == "flowers@champion is now flowers:3, before flowers:1"
    assert str(rollback(flowers, "flowers")) == "flowers@champion is now flowers:1, before flowers:3"
    assert str(unalias(flowers, "flowers", CHAMPION)) == "flowers@champion is now unset, before flowers:1"


@pytest.mark.parametrize("wrong", [UNSET, 1, 3])
def test_an_alias_that_is_not_where_it_was_expected_stays(flowers: ModelRepository, wrong: Expected) -> None:
    promote(flowers, parse("flowers:1"), expect=UNSET)
    promote(flowers, parse("flowers:2"), expect=1)
    before = flowers.deployment("flowers")
    for change in (
        lambda: promote(flowers, parse("flowers:3"), expect=wrong),
        lambda: rollback(flowers, "flowers", expect=wrong),
        lambda: unalias(flowers, "flowers", CHAMPION, expect=wrong),
    ):
        with pytest.raises(Conflict, match=f"flowers@champion is 2, and not {wrong}"):
            change()
    assert flowers.deployment("flowers") == before


def test_rolling_back_twice_goes_back_twice(flowers: ModelRepository) -> None:
    for number in (1, 2, 3):
        promote(flowers, Reference(name="flowers", number=number))
    assert rollback(flowers, "flowers", expect=3).now == 2
    assert rollback(flowers, "flowers").now == 1
    with pytest.raises(Conflict, match="has pointed to no other version; name one: graftwork models promote flowers:N"):
        rollback(flowers, "flowers")
    assert champion(flowers) == 1


def test_a_version_that_was_deleted_is_not_gone_back_to(flowers: ModelRepository) -> None:
    for number in (1, 2, 3):
        promote(flowers, Reference(name="flowers", number=number))
    flowers.delete(parse("flowers:2"))
    assert rollback(flowers, "flowers").now == 1


@pytest.mark.parametrize("file", ["flowers/2/head.safetensors", f".backbones/{BACKBONE}/model.safetensors"])
def test_a_damaged_version_is_not_promoted(flowers: ModelRepository, file: str) -> None:
    promote(flowers, parse("flowers:1"))
    damaged = flowers.root / file
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    with pytest.raises(PromotionRefused, match=r"damaged.*; 'champion' stays as it is"):
        promote(flowers, parse("flowers:2"))
    assert champion(flowers) == 1


def test_a_damaged_version_is_not_gone_back_to(flowers: ModelRepository) -> None:
    for number in (1, 2):
        promote(flowers, Reference(name="flowers", number=number))
    (flowers.root / "flowers/1/head.safetensors").write_bytes(b"?")
    with pytest.raises(PromotionRefused, match=r"damaged.*; 'champion' stays as it is"):
        rollback(flowers, "flowers")
    assert champion(flowers) == 2


def test_a_backbone_that_is_gone_is_as_bad(flowers: ModelRepository) -> None:
    flowers.backbones.root.rename(flowers.root / "elsewhere")
    with pytest.raises(PromotionRefused, match="is not in this repository"):
        promote(flowers, parse("flowers:2"))


def test_what_is_not_there_cannot_be_pointed_to(flowers: ModelRepository) -> None:
    with pytest.raises(VersionNotFound):
        promote(flowers, parse("flowers:9"))
    for change in (
        lambda: promote(flowers, parse("trees:1")),
        lambda: rollback(flowers, "trees"),
        lambda: unalias(flowers, "trees", CHAMPION),
    ):
        with pytest.raises(ModelNotFound):
            change()
    assert not (flowers.root / "trees").exists()


# Row L14: several at once


def _count_up(root: Path, rounds: int, ready: Barrier, moved: Queue[tuple[int, int]]) -> None:
    """Moves the champion on by one, from wherever it is, as often as it can."""
    os.fsync = lambda _: None  # type: ignore[assignment]
    repository = ModelRepository(root)
    ready.wait()
    for _ in range(rounds):
        now = champion(repository) or 0
        expect: Expected = now or UNSET
        try:
            promote(repository, Reference(name="flowers", number=now % 3 + 1), expect=expect)
        except Conflict:
            continue
        moved.put((now, now % 3 + 1))
    moved.put((0, 0))


def test_of_two_that_expect_the_same_one_is_refused(flowers: ModelRepository) -> None:
    context = multiprocessing.get_context("spawn")
    ready, queue = context.Barrier(2), context.Queue()
    both = [context.Process(target=_count_up, args=(flowers.root, 100, ready, queue)) for _ in range(2)]
    for process in both:
        process.start()
    moved, ended = [], 0
    while ended < 2:
        step = queue.get(timeout=60)
        ended += step == (0, 0)
        moved += [step] if step != (0, 0) else []
    for process in both:
        process.join()
        assert process.exitcode == 0
    assert len(moved) >= 100  # whenever one is refused, the other one was not
    assert champion(flowers) == len(moved) % 3 or (len(moved) % 3 == 0 and champion(flowers) == 3)


def _publish_and_delete(root: Path, rounds: int, ready: Barrier, given: Queue[int]) -> None:
    """Publishes, and deletes what was published two rounds before, unless an alias points to it."""
    os.fsync = lambda _: None  # type: ignore[assignment]
    repository, own = ModelRepository(root), list[int]()
    ready.wait()
    for _ in range(rounds):
        own.append(publish(repository).number)
        given.put(own[-1])
        if len(own) > 2:
            with suppress(VersionInUse):
                repository.delete(Reference(name="flowers", number=own[-3]))


def _promote_the_newest(root: Path, rounds: int, ready: Barrier) -> None:
    """Promotes what is there, which may be deleted just then, and rolls back every third time."""
    os.fsync = lambda _: None  # type: ignore[assignment]
    repository = ModelRepository(root)
    ready.wait()
    for number in range(rounds):
        with suppress(VersionNotFound, Conflict):
            promote(repository, Reference(name="flowers", number=repository.numbers("flowers")[0]))
            if number % 3 == 0:
                rollback(repository, "flowers")


def test_publishers_promotions_and_deletes_at_once_leave_the_champion_whole(flowers: ModelRepository) -> None:
    """Goal G18, in short."""
    rounds = 30
    promote(flowers, parse("flowers:1"))
    context = multiprocessing.get_context("spawn")
    ready, given = context.Barrier(3), context.Queue()
    processes = [
        context.Process(target=_publish_and_delete, args=(flowers.root, rounds, ready, given)) for _ in range(2)
    ]
    processes.append(context.Process(target=_promote_the_newest, args=(flowers.root, 3 * rounds, ready)))
    for process in processes:
        process.start()
    numbers = [given.get(timeout=60) for _ in range(2 * rounds)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert sorted(numbers) == list(range(4, 4 + 2 * rounds))  # none lost, none given twice
    serving = flowers.resolve(parse("flowers@champion"))  # never one that was deleted
    flowers.verify(serving)
    for number in flowers.numbers("flowers"):
        flowers.verify(flowers.read("flowers", number))
    assert leftovers(flowers.root) == []
