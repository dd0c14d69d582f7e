"""The model repository: published whole or not at all, and numbered for ever."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from models.aliases import promote
from models.deployment import CHAMPION
from models.errors import InvalidParameter, ModelNotFound, VersionCorrupt, VersionInUse, VersionNotFound
from models.repository import ModelRepository
from models.version import Reference
from tests.models.versions import FILES, leftovers, manifest, parse, place_backbone, publish

# Publishing and reading


def test_an_empty_repository_need_not_exist(repository: ModelRepository) -> None:
    assert repository.names() == []
    assert repository.numbers("flowers") == []
    assert repository.generation() == b""
    with pytest.raises(ModelNotFound):
        repository.resolve(parse("flowers"))
    assert not repository.root.exists()


def test_a_published_version_is_what_was_given(repository: ModelRepository) -> None:
    version = publish(repository)
    assert str(version) == "flowers:1"
    repository.verify(version)
    found = repository.read("flowers", 1)
    assert found == version
    assert found.manifest.labels == ("no", "yes")
    assert set(found.manifest.files) == {*FILES, "README.md"}
    for name, data in FILES.items():
        assert (found.directory / name).read_bytes() == data
        assert found.manifest.files[name].size_bytes == len(data)
    assert (found.directory / "README.md").read_text() == "# flowers:1"
    assert leftovers(repository.root) == []


def test_numbers_count_up_and_models_are_apart(repository: ModelRepository) -> None:
    assert [publish(repository).number for _ in range(11)] == list(range(1, 12))
    assert publish(repository, "dogs").number == 1
    assert repository.names() == ["dogs", "flowers"]
    assert repository.numbers("flowers") == list(range(1, 12))
    assert [version.number for version in repository.versions("flowers")] == list(range(1, 12))


def test_files_may_lie_in_folders_of_folders(repository: ModelRepository) -> None:
    files = {"a/b/c.txt": b"c", "a/d.txt": b"d"}
    late: dict[str, bytes] = {"e/f.txt": b"f"}
    place_backbone(repository)
    version = repository.publish(manifest(), files, check=lambda _: None, finish=lambda _: late)
    repository.verify(version)
    assert set(version.manifest.files) == {*files, *late}


def test_a_check_that_refuses_leaves_nothing(repository: ModelRepository) -> None:
    publish(repository)
    seen: list[Path] = []

    def check(directory: Path) -> None:
        seen.append(directory)
        assert (directory / "head.safetensors").read_bytes() == b"weights"
        raise VersionCorrupt("no good")

    with pytest.raises(VersionCorrupt, match="no good"):
        repository.publish(manifest(), FILES, check=check)
    assert not seen[0].exists()
    assert repository.numbers("flowers") == [1]
    assert leftovers(repository.root) == []


def test_every_change_changes_the_generation(repository: ModelRepository) -> None:
    generations = [repository.generation()]
    changes: list[Callable[[], object]] = [
        lambda: publish(repository),
        lambda: publish(repository),
        lambda: promote(repository, parse("flowers:1"), CHAMPION),
        lambda: repository.delete(parse("flowers:2")),
    ]
    for change in changes:
        change()
        generations.append(repository.generation())
    assert len(set(generations)) == 5


def test_foreign_things_in_the_repository_are_no_models(repository: ModelRepository) -> None:
    publish(repository)
    (repository.root / "notes.txt").write_text("")
    (repository.root / "lost+found").mkdir()
    (repository.root / "lost+found" / "1").mkdir()
    (repository.root / "empty").mkdir()
    for name in ("0", "007", "x", "-1", "²", "1.5"):
        (repository.root / "flowers" / name).mkdir()
    (repository.root / "flowers" / "9").write_text("a file")
    assert repository.names() == ["flowers"]
    assert repository.numbers("flowers") == [1]


# Resolving


def test_references_resolve_to_number_alias_champion_or_newest(repository: ModelRepository) -> None:
    for _ in range(3):
        publish(repository)
    assert repository.resolve(parse("flowers")).number == 3
    promote(repository, parse("flowers:1"), CHAMPION)
    promote(repository, parse("flowers:2"), "candidate")
    assert repository.resolve(parse("flowers")).number == 1
    assert repository.resolve(parse("flowers:3")).number == 3
    assert repository.resolve(parse("flowers@candidate")).number == 2
    promote(repository, parse("flowers@candidate"), CHAMPION)
    assert repository.deployment("flowers").aliases == {CHAMPION: 2, "candidate": 2}


def test_what_is_not_there_is_refused_with_what_is(repository: ModelRepository) -> None:
    publish(repository)
    publish(repository)
    promote(repository, parse("flowers:1"), CHAMPION)
    for action in (repository.resolve, repository.delete, lambda r: promote(repository, r, "x")):
        with pytest.raises(ModelNotFound, match="did you mean 'flowers'"):
            action(parse("flower"))
        with pytest.raises(VersionNotFound, match="no version 7 of 'flowers'; it has 1, 2"):
            action(parse("flowers:7"))
        with pytest.raises(VersionNotFound, match="no alias 'champio'; did you mean 'champion'"):
            action(parse("flowers@champio"))
    with pytest.raises(VersionNotFound):
        repository.read("flowers", 7)


@pytest.mark.parametrize("name", ["../flowers", "a/b", "", ".", "..", ".hidden", "a\0b", "a" * 65, "ａ", "a\n"])
def test_a_hostile_name_never_becomes_a_path(name: str, repository: ModelRepository, tmp_path: Path) -> None:
    publish(ModelRepository(tmp_path))  # something to be reached from below
    publish(repository)
    reference = Reference(name=name)
    actions: list[Callable[[], object]] = [
        lambda: repository.numbers(name),
        lambda: repository.read(name, 1),
        lambda: repository.versions(name),
        lambda: repository.deployment(name),
        lambda: repository.resolve(reference),
        lambda: promote(repository, reference, "x"),
        lambda: repository.delete(reference),
        lambda: publish(repository, name),
    ]
    for action in actions:
        with pytest.raises(InvalidParameter):
            action()
    with pytest.raises(InvalidParameter):
        promote(repository, parse("flowers:1"), name)


# Deleting


def test_a_deleted_number_is_never_given_again(repository: ModelRepository) -> None:
    publish(repository)
    assert str(repository.delete(parse("flowers:1"))) == "flowers:1"
    assert repository.names() == []
    assert publish(repository).number == 2
    publish(repository)
    repository.delete(parse("flowers:3"))
    repository.delete(parse("flowers:2"))
    assert publish(repository).number == 4
    assert repository.numbers("flowers") == [4]


def test_a_version_with_an_alias_is_not_deleted(repository: ModelRepository) -> None:
    publish(repository)
    publish(repository)
    promote(repository, parse("flowers:1"), CHAMPION)
    with pytest.raises(VersionInUse, match="flowers:1 is 'champion'"):
        repository.delete(parse("flowers:1"))
    promote(repository, parse("flowers:2"), CHAMPION)
    repository.delete(parse("flowers:1"))
    assert repository.numbers("flowers") == [2]


# Row L14: two at once


def _publish_many(root: Path, rounds: int, ready: Barrier, numbers: Queue[int]) -> None:
    """Publishes and, every other round, deletes what it published before."""
    os.fsync = lambda _: None  # type: ignore[assignment]
    repository = ModelRepository(root)
    ready.wait()
    previous = None
    for _ in range(rounds):
        number = publish(repository).number
        numbers.put(number)
        if previous is not None:
            repository.delete(Reference(name="flowers", number=previous))
            previous = None
        else:
            previous = number


def test_two_publishers_never_share_lose_or_reuse_a_number(repository: ModelRepository) -> None:
    rounds = 20
    context = multiprocessing.get_context("spawn")
    ready, numbers = context.Barrier(2), context.Queue()
    publishers = [
        context.Process(target=_publish_many, args=(repository.root, rounds, ready, numbers)) for _ in range(2)
    ]
    for publisher in publishers:
        publisher.start()
    given = [numbers.get(timeout=60) for _ in range(2 * rounds)]
    for publisher in publishers:
        publisher.join()
        assert publisher.exitcode == 0
    assert sorted(given) == list(range(1, 2 * rounds + 1))
    assert len(repository.numbers("flowers")) == rounds
    for version in repository.versions("flowers"):
        repository.verify(version)
        assert (version.directory / "README.md").read_text() == f"# {version}"
    assert leftovers(repository.root) == []
    assert publish(repository).number == 2 * rounds + 1
