"""Every step of a collection may fail, or be the last one: never a version without its backbone."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from models import storage
from models.errors import StorageFailed
from models.garbage import collect_garbage
from models.repository import ModelRepository
from tests.models.versions import BACKBONE, leftovers, parse, place_backbone, publish

UNUSED = ("e" * 64, "f" * 64)


class Killed(BaseException):
    """The process is gone: nothing that it would still do happens."""


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions on one backbone, two backbones without a version, and what a publish left that died; all of it old."""
    root = tmp_path_factory.mktemp("before") / "repository"
    repository = ModelRepository(root)
    publish(repository)
    publish(repository)
    for digest in UNUSED:
        (place_backbone(repository, digest) / "model.safetensors").write_bytes(b"weights")
        (place_backbone(repository, digest) / "config.json").write_bytes(b"{}")
    (root / "flowers" / ".staging-dead").mkdir()
    for directory in repository.backbones.root.iterdir():
        os.utime(directory, (time.time() - 10**6,) * 2)
    return root


def collect(root: Path) -> None:
    collect_garbage(ModelRepository(root), root.parent / "cache", unused_for=timedelta(days=1))


def steps(root: Path, trace: Callable[[str], None]) -> BaseException | None:
    """Collects with every step told; what was raised."""
    storage.trace = trace
    try:
        collect(root)
    except (StorageFailed, Killed) as error:
        return error
    finally:
        storage.trace = None
    return None


def assert_sound(root: Path) -> None:
    """Versions are whole and have their backbone; of the others each is whole or gone."""
    repository = ModelRepository(root)
    assert repository.numbers("flowers") == [1, 2]
    for version in repository.versions("flowers"):
        repository.verify(version)
        assert (repository.backbones.root / version.manifest.backbone.digest).is_dir()
    for digest in repository.backbones.digests():
        if digest != BACKBONE:
            assert len(list((repository.backbones.root / digest).iterdir())) == 2


@pytest.mark.parametrize("number", [None, errno.ENOSPC, errno.EIO, errno.EROFS], ids=str)
def test_a_kill_or_an_error_at_any_step_leaves_every_version_its_backbone(
    number: int | None, before: Path, tmp_path: Path
) -> None:
    complete: list[str] = []
    shutil.copytree(before, tmp_path / "complete")
    assert steps(tmp_path / "complete", complete.append) is None
    assert {"lock", "rename", "remove", "fsync-directory"} <= set(complete)
    assert ModelRepository(tmp_path / "complete").backbones.digests() == [BACKBONE]
    for index in range(len(complete)):
        root = tmp_path / str(index)
        shutil.copytree(before, root)
        done: list[str] = []

        def trace(step: str, index: int = index, done: list[str] = done) -> None:
            done.append(step)
            if number is None and len(done) > index:
                raise Killed
            if number is not None and len(done) == index + 1:
                raise OSError(number, os.strerror(number))

        raised = steps(root, trace)
        if raised is None:
            assert complete[index] == "remove"  # sweeping may wait
        elif number is None:
            assert isinstance(raised, Killed)
        else:
            assert isinstance(raised, StorageFailed)
            assert str(root) not in raised.message
        assert_sound(root)
        collect(root)  # as if nothing had happened
        assert_sound(root)
        assert ModelRepository(root).backbones.digests() == [BACKBONE]
        assert leftovers(root) == []


def test_all_that_is_seen_is_on_the_disk_before_a_backbone_goes(before: Path, tmp_path: Path) -> None:
    """A delete that a power cut undoes would bring back a version that wants its backbone."""
    shutil.copytree(before, tmp_path / "copy")
    repository = ModelRepository(tmp_path / "copy")
    repository.delete(parse("flowers:2"))
    repository.delete(parse("flowers:1"))
    complete: list[str] = []
    steps(tmp_path / "copy", complete.append)
    assert complete[complete.index("rename") - 1] == "fsync-directory"  # of a model without any version left
    last = len(complete) - 1 - complete[::-1].index("rename")
    assert complete[last + 1 : last + 3] == ["fsync-directory", "remove"]
