"""The model repository: published whole or not at all, whatever fails, and numbered for ever."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from models import storage
from models.deployment import CHAMPION
from models.errors import (
    InvalidParameter,
    ModelNotFound,
    StorageFailed,
    VersionCorrupt,
    VersionInUse,
    VersionNotFound,
)
from models.repository import ModelRepository
from models.version import ModelVersion, Reference
from tests.models.versions import FILES, manifest, publish


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return ModelRepository(tmp_path / "repository")


def parse(text: str) -> Reference:
    return Reference.parse(text)


def leftovers(root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in root.rglob(".staging-*")]


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
        lambda: repository.set_alias(parse("flowers:1"), CHAMPION),
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
    repository.set_alias(parse("flowers:1"), CHAMPION)
    repository.set_alias(parse("flowers:2"), "candidate")
    assert repository.resolve(parse("flowers")).number == 1
    assert repository.resolve(parse("flowers:3")).number == 3
    assert repository.resolve(parse("flowers@candidate")).number == 2
    repository.set_alias(parse("flowers@candidate"), CHAMPION)
    assert repository.deployment("flowers").aliases == {CHAMPION: 2, "candidate": 2}


def test_what_is_not_there_is_refused_with_what_is(repository: ModelRepository) -> None:
    publish(repository)
    publish(repository)
    repository.set_alias(parse("flowers:1"), CHAMPION)
    for action in (repository.resolve, repository.delete, lambda r: repository.set_alias(r, "x")):
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
        lambda: repository.set_alias(reference, "x"),
        lambda: repository.delete(reference),
        lambda: publish(repository, name),
    ]
    for action in actions:
        with pytest.raises(InvalidParameter):
            action()
    with pytest.raises(InvalidParameter):
        repository.set_alias(parse("flowers:1"), name)


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
    repository.set_alias(parse("flowers:1"), CHAMPION)
    with pytest.raises(VersionInUse, match="flowers:1 is 'champion'"):
        repository.delete(parse("flowers:1"))
    repository.set_alias(parse("flowers:2"), CHAMPION)
    repository.delete(parse("flowers:1"))
    assert repository.numbers("flowers") == [2]


# Damage on disk: rows L11, L12, L20


def _flip_a_bit(version: ModelVersion) -> None:
    file = version.directory / "head.safetensors"
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])


def _truncate(version: ModelVersion) -> None:
    (version.directory / "report" / "figure.png").write_bytes(b"fig")


def _remove_a_file(version: ModelVersion) -> None:
    (version.directory / "golden" / "expected.json").unlink()


def _add_a_pickle(version: ModelVersion) -> None:
    (version.directory / "report" / "extra.pkl").write_bytes(b"\x80\x04.")


def _link_a_file(version: ModelVersion) -> None:
    file = version.directory / "head.safetensors"
    shutil.move(file, version.directory.parent / "elsewhere")
    file.symlink_to(version.directory.parent / "elsewhere")


def _link_a_folder(version: ModelVersion) -> None:
    shutil.move(version.directory / "report", version.directory.parent / "elsewhere")
    (version.directory / "report").symlink_to(version.directory.parent / "elsewhere")


def _add_a_linked_folder(version: ModelVersion) -> None:
    (version.directory / "more").symlink_to("/")


def _replace_by_a_pipe(version: ModelVersion) -> None:
    (version.directory / "head.safetensors").unlink()
    os.mkfifo(version.directory / "head.safetensors")


def _name_a_file_outside(version: ModelVersion) -> None:
    text = (version.directory / "manifest.json").read_text()
    (version.directory.parent / "outside").write_bytes(b"weights")
    (version.directory / "manifest.json").write_text(text.replace('"head.safetensors"', '"../outside"'))


DAMAGES = [
    _flip_a_bit,
    _truncate,
    _remove_a_file,
    _add_a_pickle,
    _link_a_file,
    _link_a_folder,
    _add_a_linked_folder,
    _replace_by_a_pipe,
    _name_a_file_outside,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__.strip("_"))
def test_a_damaged_version_does_not_verify(damage: Callable[[ModelVersion], None], repository: ModelRepository) -> None:
    publish(repository)
    damage(publish(repository))
    with pytest.raises(VersionCorrupt, match=r"flowers:2: .*; publish the model again") as caught:
        repository.verify(repository.read("flowers", 2))
    assert str(repository.root) not in caught.value.message
    repository.verify(repository.read("flowers", 1))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"schema_version": 3}', b'{"schema_version": "x"}', b"[" * 100_000],
)
def test_a_damaged_manifest_is_not_read(content: bytes, repository: ModelRepository) -> None:
    version = publish(repository)
    (version.directory / "manifest.json").write_bytes(content)
    with pytest.raises(VersionCorrupt, match="the manifest of flowers:1 is damaged"):
        repository.read("flowers", 1)
    assert repository.versions("flowers") == []


def test_a_manifest_that_is_missing_or_of_another_version_is_not_read(repository: ModelRepository) -> None:
    first, second = publish(repository), publish(repository)
    shutil.copy(first.directory / "manifest.json", second.directory)
    with pytest.raises(VersionCorrupt, match="the manifest of flowers:2 is that of flowers:1"):
        repository.read("flowers", 2)
    (second.directory / "manifest.json").unlink()
    with pytest.raises(VersionCorrupt, match="flowers:2 has no readable manifest"):
        repository.read("flowers", 2)


def test_a_damaged_newest_version_keeps_neither_rollback_nor_its_own_removal(repository: ModelRepository) -> None:
    publish(repository)
    newest = publish(repository)
    (newest.directory / "manifest.json").write_bytes(b"{")
    with pytest.raises(VersionCorrupt):
        repository.set_alias(parse("flowers:2"), CHAMPION)
    assert repository.set_alias(parse("flowers:1"), CHAMPION).number == 1
    assert str(repository.delete(parse("flowers:2"))) == "flowers:2"
    assert publish(repository).number == 3


def test_an_alias_of_a_version_that_was_removed_by_hand_can_be_mended(repository: ModelRepository) -> None:
    publish(repository)
    repository.set_alias(parse(str(publish(repository))), CHAMPION)
    shutil.rmtree(repository.root / "flowers" / "2")
    with pytest.raises(VersionNotFound, match="no version 2 of 'flowers'; it has 1"):
        repository.resolve(parse("flowers"))
    repository.set_alias(parse("flowers:1"), CHAMPION)
    assert repository.resolve(parse("flowers")).number == 1


def test_damaged_aliases_are_refused_and_not_written_over(repository: ModelRepository) -> None:
    publish(repository)
    file = repository.root / "flowers" / "deployment.json"
    file.write_bytes(b"{")
    for action in (
        lambda: repository.resolve(parse("flowers")),
        lambda: repository.set_alias(parse("flowers:1"), CHAMPION),
        lambda: repository.delete(parse("flowers:1")),
    ):
        with pytest.raises(VersionCorrupt, match=r"delete its deployment\.json"):
            action()
    assert file.read_bytes() == b"{"
    assert repository.resolve(parse("flowers:1")).number == 1


def test_a_newer_schema_is_refused_without_writing(repository: ModelRepository) -> None:
    """Also where all the fields that this version knows are there: they may mean something else by then."""
    version = publish(repository)
    repository.set_alias(parse("flowers:1"), CHAMPION)
    for file in (version.directory / "manifest.json", repository.root / "flowers" / "deployment.json"):
        old = file.read_text()
        ours = json.loads(old)["schema_version"]
        for newer in ({"schema_version": ours + 1}, {"schema_version": ours + 2, "new_field": []}):
            content = json.dumps({**json.loads(old), **newer})
            file.write_text(content)
            for action in (
                lambda: repository.resolve(parse("flowers")),
                lambda: repository.set_alias(parse("flowers@champion"), "other"),
            ):
                with pytest.raises(VersionCorrupt, match=rf"written in schema \d, this is {ours}; upgrade graftwork"):
                    action()
            assert file.read_text() == content
        file.write_text(old)


def test_an_older_schema_is_refused_with_the_cure(repository: ModelRepository) -> None:
    version = publish(repository)
    file = version.directory / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema_version": 1}))
    with pytest.raises(VersionCorrupt, match="flowers:1: written in schema 1, this is 3; publish the model again"):
        repository.read("flowers", 1)


def test_a_version_deleted_while_it_is_loaded_is_a_clean_error(repository: ModelRepository) -> None:
    publish(repository)
    version = publish(repository)
    repository.delete(parse("flowers:2"))
    with pytest.raises(VersionCorrupt):
        repository.verify(version)
    with pytest.raises(VersionNotFound):
        repository.read("flowers", 2)


# Row L13: every step may fail, or be the last one


class Killed(BaseException):
    """The process is gone: nothing that it would still do happens."""


def add(repository: ModelRepository) -> None:
    publish(repository, **{"head.safetensors": b"other"})


def alias(repository: ModelRepository) -> None:
    repository.set_alias(parse("flowers:2"), CHAMPION)


def first_alias(repository: ModelRepository) -> None:
    repository.set_alias(parse("flowers:2"), "candidate")


def delete(repository: ModelRepository) -> None:
    repository.delete(parse("flowers:2"))


def add_model(repository: ModelRepository) -> None:
    publish(repository, "dogs")


OPERATIONS = [add, add_model, alias, first_alias, delete]


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with two versions, the first of them champion."""
    root = tmp_path_factory.mktemp("before") / "repository"
    repository = ModelRepository(root)
    publish(repository)
    publish(repository)
    repository.set_alias(parse("flowers:1"), CHAMPION)
    return root


def state(repository: ModelRepository) -> object:
    """All that a reader sees; every version must be whole."""
    versions = [version for name in repository.names() for version in repository.versions(name)]
    for version in versions:
        repository.verify(version)
    for name in repository.names():
        assert len(repository.versions(name)) == len(repository.numbers(name))
        repository.resolve(parse(name))
    return (
        [(str(version), (version.directory / "head.safetensors").read_bytes()) for version in versions],
        {name: repository.deployment(name).aliases for name in repository.names()},
    )


def steps_of(operation: Callable[[ModelRepository], object], root: Path) -> list[str]:
    steps: list[str] = []
    storage.trace = steps.append
    try:
        operation(ModelRepository(root))
    finally:
        storage.trace = None
    return steps


def faults(
    operation: Callable[[ModelRepository], object], before: Path, tmp_path: Path, fault: Callable[[int, str], None]
) -> Iterator[tuple[ModelRepository, object, object, str, BaseException | None]]:
    """Runs an operation once for each of its steps.

    Args:
        fault: called before each step with the number of steps since the one that is meant (0 for that one) and the
            step's name; it raises.

    Yields:
        The repository afterwards, what it would be without and with the operation, the step, and what was raised.
    """
    old = state(ModelRepository(before))
    shutil.copytree(before, tmp_path / "complete")
    steps = steps_of(operation, tmp_path / "complete")
    new = state(ModelRepository(tmp_path / "complete"))
    assert old != new
    assert len(steps) > 5
    for index, step in enumerate(steps):
        root = tmp_path / str(index)
        shutil.copytree(before, root)
        done = 0

        def trace(name: str, index: int = index) -> None:
            nonlocal done
            done += 1
            if done > index:
                fault(done - 1 - index, name)

        storage.trace = trace
        raised: BaseException | None = None
        try:
            operation(ModelRepository(root))
        except (StorageFailed, Killed) as error:
            raised = error
        finally:
            storage.trace = None
        yield ModelRepository(root), old, new, step, raised


def assert_works(repository: ModelRepository) -> None:
    """Everything that a repository does, as if nothing had happened; the next publish sweeps."""
    highest = max(repository.numbers("flowers"))
    version = publish(repository)
    assert version.number > highest
    publish(repository, "dogs")
    repository.verify(version)
    repository.set_alias(parse(str(version)), CHAMPION)
    assert repository.resolve(parse("flowers")).number == version.number
    assert leftovers(repository.root) == []


def test_everything_is_on_the_disk_before_it_gets_its_name(before: Path, tmp_path: Path) -> None:
    shutil.copytree(before, tmp_path / "copy")
    steps = steps_of(add, tmp_path / "copy")
    rename = steps.index("rename")
    assert steps[:rename].count("fsync") == len(FILES) + 2  # the model card and the manifest
    assert steps[:rename].count("fsync-directory") >= 3
    assert steps[rename - 1] == steps[rename + 1] == "fsync-directory"


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_an_error_at_any_step_leaves_old_or_new(
    operation: Callable[[ModelRepository], object], number: int, before: Path, tmp_path: Path
) -> None:
    def fail(since: int, step: str) -> None:
        if since == 0:
            raise OSError(number, os.strerror(number))

    for repository, old, new, step, raised in faults(operation, before, tmp_path, fail):
        found = state(repository)
        assert found in (old, new), step
        if raised is None:
            assert step == "remove", step  # sweeping may wait
            assert found == new
            assert repository.generation() != ModelRepository(before).generation()
        else:
            assert isinstance(raised, StorageFailed)
            assert os.strerror(number) in raised.message
            assert str(repository.root) not in raised.message
            # A deleted version whose disappearance is not on disk yet must stay whole.
            assert leftovers(repository.root) == [] or (operation is delete and step == "fsync-directory"), step
            # What is done and cannot be undone is said, so that nobody does it twice.
            assert ("servers may not know" in raised.message) <= (found == new), step
        assert_works(repository)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_disk_that_stays_full_leaves_old_or_new(
    operation: Callable[[ModelRepository], object], before: Path, tmp_path: Path
) -> None:
    """Removing works on a full disk; whatever writes does not."""

    def fail(since: int, step: str) -> None:
        if step in ("mkdir", "open", "write", "fsync"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for repository, old, new, step, _ in faults(operation, before, tmp_path, fail):
        assert state(repository) in (old, new), step
        assert leftovers(repository.root) == [], step
        assert_works(repository)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_kill_at_any_step_leaves_old_or_new(
    operation: Callable[[ModelRepository], object], before: Path, tmp_path: Path
) -> None:
    def kill(since: int, step: str) -> None:
        raise Killed

    for repository, old, new, step, raised in faults(operation, before, tmp_path, kill):
        assert isinstance(raised, Killed)
        assert state(repository) in (old, new), step
        assert_works(repository)


def _kill_at_step(root: Path, index: int) -> None:
    """Runs in a child process, which does not survive it."""
    left = index

    def trace(_: str) -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    storage.trace = trace
    add(ModelRepository(root))


def _kill_at_every_step(before: Path, tmp_path: Path, count: int) -> None:
    os.fsync = lambda _: None  # type: ignore[assignment]
    for index in range(count):
        shutil.copytree(before, tmp_path / str(index))
        child = os.fork()
        if child == 0:
            _kill_at_step(tmp_path / str(index), index)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_a_real_kill_at_any_step_of_a_publish_leaves_old_or_new(before: Path, tmp_path: Path) -> None:
    """The children are forked from a fresh process, since this one has threads."""
    old = state(ModelRepository(before))
    shutil.copytree(before, tmp_path / "complete")
    count = len(steps_of(add, tmp_path / "complete"))
    new = state(ModelRepository(tmp_path / "complete"))
    parent = multiprocessing.get_context("spawn").Process(target=_kill_at_every_step, args=(before, tmp_path, count))
    parent.start()
    parent.join()
    assert parent.exitcode == 0
    found = [state(ModelRepository(tmp_path / str(index))) for index in range(count)]
    assert all(one in (old, new) for one in found)
    assert old in found
    assert new in found
    for index in range(count):
        assert_works(ModelRepository(tmp_path / str(index)))


def test_a_publish_that_no_server_was_told_of_says_that_it_is_done(
    repository: ModelRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(repository)

    def fail() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(repository, "_bump_generation", fail)
    told = "but running servers may not know of it yet: No space left on device"
    with pytest.raises(StorageFailed, match=f"^flowers:2 is published, {told}$"):
        publish(repository)
    with pytest.raises(StorageFailed, match=f"^flowers@champion is flowers:2, {told}$"):
        repository.set_alias(parse("flowers:2"), CHAMPION)
    with pytest.raises(StorageFailed, match=f"^flowers:1 is deleted, {told}$"):
        repository.delete(parse("flowers:1"))
    assert repository.resolve(parse("flowers")).number == 2
    assert repository.numbers("flowers") == [2]


def test_a_repository_that_is_no_directory_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageFailed, match="the model repository cannot be written: "):
        publish(ModelRepository(tmp_path / "file"))


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
