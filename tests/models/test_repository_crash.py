"""Row L13: every step of a change may fail, or be the last one."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models import storage
from models.aliases import promote, rollback, unalias
from models.deployment import CHAMPION
from models.errors import StorageFailed
from models.repository import ModelRepository
from tests.models.versions import FILES, leftovers, parse, publish


class Killed(BaseException):
    """The process is gone: nothing that it would still do happens."""


def add(repository: ModelRepository) -> None:
    publish(repository, **{"head.safetensors": b"other"})


def alias(repository: ModelRepository) -> None:
    promote(repository, parse("flowers:2"), CHAMPION)


def first_alias(repository: ModelRepository) -> None:
    promote(repository, parse("flowers:2"), "candidate")


def roll_back(repository: ModelRepository) -> None:
    rollback(repository, "flowers")


def remove_alias(repository: ModelRepository) -> None:
    unalias(repository, "flowers", CHAMPION)


def delete(repository: ModelRepository) -> None:
    repository.delete(parse("flowers:2"))


def add_model(repository: ModelRepository) -> None:
    publish(repository, "dogs")


OPERATIONS = [add, add_model, alias, first_alias, roll_back, remove_alias, delete]


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with two versions, the first of them champion, after the second."""
    root = tmp_path_factory.mktemp("before") / "repository"
    repository = ModelRepository(root)
    publish(repository)
    publish(repository)
    promote(repository, parse("flowers:2"), CHAMPION)
    promote(repository, parse("flowers:1"), CHAMPION)
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
        {name: repository.deployment(name) for name in repository.names()},
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
    promote(repository, parse(str(version)), CHAMPION)
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
    with pytest.raises(StorageFailed, match=f"^the change to 'flowers' holds, {told}$"):
        promote(repository, parse("flowers:2"), CHAMPION)
    with pytest.raises(StorageFailed, match=f"^flowers:1 is deleted, {told}$"):
        repository.delete(parse("flowers:1"))
    assert repository.resolve(parse("flowers")).number == 2
    assert repository.numbers("flowers") == [2]


def test_a_repository_that_is_no_directory_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageFailed, match="the model repository cannot be written: "):
        publish(ModelRepository(tmp_path / "file"))
