"""Each step that changes the file system."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models import storage
from models.errors import StorageFailed


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the steps that are made."""
    names: list[str] = []
    monkeypatch.setattr(storage, "trace", names.append)
    return names


def test_a_file_is_written_once(tmp_path: Path, steps: list[str]) -> None:
    file = tmp_path / "file"
    storage.write_file(file, b"abc")
    assert file.read_bytes() == b"abc"
    assert steps == ["open", "write", "fsync"]
    with pytest.raises(FileExistsError):
        storage.write_file(file, b"other")
    assert file.read_bytes() == b"abc"


def test_a_replaced_file_is_old_or_new_at_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    storage.replace_file(file, b"old")
    seen: list[tuple[str, bytes]] = []
    monkeypatch.setattr(storage, "trace", lambda step: seen.append((step, file.read_bytes())))
    storage.replace_file(file, b"new")
    assert seen == [
        ("open", b"old"),
        ("write", b"old"),
        ("fsync", b"old"),
        ("replace", b"old"),
        ("fsync-directory", b"new"),
    ]
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("failing", ["open", "write", "fsync", "replace"])
def test_a_replacement_that_fails_leaves_the_old_file_alone(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")

    def fail(step: str) -> None:
        if step == failing:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage, "trace", fail)
    with pytest.raises(OSError, match="No space"):
        storage.replace_file(file, b"new")
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_real_write_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    """The kernel writes what fits and refuses the rest, as on a full disk."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))
    try:
        with (
            pytest.raises(StorageFailed, match="cannot be written: File too large"),
            storage.reporting("cannot be written"),
        ):
            storage.replace_file(tmp_path / "file", bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert os.listdir(tmp_path) == []


def test_failures_are_reported_without_a_path(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed) as caught, storage.reporting("it cannot be written"):
        storage.write_file(tmp_path / "no" / "folder", b"")
    assert caught.value.message == "it cannot be written: No such file or directory"


def test_a_rename_never_replaces_a_directory_with_something_in_it(tmp_path: Path) -> None:
    for name in ("old", "new"):
        storage.make_directory(tmp_path / name)
        storage.write_file(tmp_path / name / "file", name.encode())
    with pytest.raises(OSError, match="not empty"):
        storage.rename(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old" / "file").read_bytes() == b"old"


def test_removing_takes_files_trees_and_nothing(tmp_path: Path) -> None:
    (tmp_path / "tree" / "branch").mkdir(parents=True)
    (tmp_path / "tree" / "leaf").write_bytes(b"")
    (tmp_path / "file").write_bytes(b"")
    for name in ("tree", "file", "gone"):
        storage.remove(tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_a_staging_directory_is_removed_unless_it_was_renamed(tmp_path: Path) -> None:
    with storage.staging(tmp_path) as staging:
        (staging / "file").write_bytes(b"")
        storage.rename(staging, tmp_path / "final")
    assert os.listdir(tmp_path) == ["final"]
    with pytest.raises(FileNotFoundError), storage.staging(tmp_path) as staging:
        storage.write_file(staging / "no folder" / "file", b"")
    assert os.listdir(tmp_path) == ["final"]


def test_sweeping_takes_what_is_dead_and_leaves_what_is_alive(tmp_path: Path) -> None:
    dead = storage.unfinished(tmp_path)
    (dead / "folder").mkdir(parents=True)
    storage.unfinished(tmp_path).write_bytes(b"half a file")
    (tmp_path / "1").mkdir()
    with storage.staging(tmp_path) as alive:
        assert sorted(os.listdir(tmp_path)) == sorted([alive.name, "1"])
        storage.sweep(tmp_path)
        assert alive.is_dir()
    assert os.listdir(tmp_path) == ["1"]


def test_what_cannot_be_swept_is_in_nobodys_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leftover = storage.unfinished(tmp_path)
    leftover.write_bytes(b"")

    def fail(step: str) -> None:
        if step == "remove":
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(storage, "trace", fail)
    storage.sweep(tmp_path)
    assert leftover.exists()


def is_free(directory: Path) -> bool:
    with storage.locked_if_free(directory) as free:
        return free


def test_a_lock_lasts_as_long_as_its_block(tmp_path: Path) -> None:
    """That it keeps other processes out is shown by the races in test_repository.py."""
    with storage.locked(tmp_path):
        assert not is_free(tmp_path)
    assert is_free(tmp_path)


def test_only_regular_files_have_a_checksum(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    assert storage.sha256_file(file) == hashlib.sha256(b"abc").hexdigest()
    (tmp_path / "link").symlink_to(file)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("link", "pipe", "folder", "missing"):  # a pipe without a writer must not make it wait
        with pytest.raises(OSError, match=r".+"):
            storage.sha256_file(tmp_path / name)


def test_files_below_a_directory_are_named_and_links_not_followed(tmp_path: Path) -> None:
    for name in ("a", "b/c", "b/d/e", "b/d/f"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "b" / "pipe")
    wanted = ["a", "b/c", "b/d/e", "b/d/f", "b/pipe", "b/up", "dangling"]
    assert sorted(storage.files_below(tmp_path)) == wanted
    assert list(storage.files_below(tmp_path / "gone")) == []


def test_who_may_read_a_file_is_decided_before_there_is_anything_in_it(tmp_path: Path) -> None:
    modes: list[int] = []

    def look(step: str) -> None:
        modes.extend(path.stat().st_mode & 0o777 for path in tmp_path.iterdir() if step == "write")

    before = os.umask(0)
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(storage, "trace", look)
            storage.replace_file(tmp_path / "secret", b"abc", mode=0o600)
            storage.append_line(tmp_path / "lines", b"abc", mode=0o600)
    finally:
        os.umask(before)
    assert set(modes) == {0o600}
    assert len(modes) == 3


def test_lines_are_added_at_the_end(tmp_path: Path, steps: list[str]) -> None:
    file = tmp_path / "file"
    for line in (b"one", b"two"):
        storage.append_line(file, line)
    assert file.read_bytes() == b"one\ntwo\n"
    assert steps == ["open", "write", "fsync"] * 2


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one\ntw")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, old[1]))
    try:
        with pytest.raises(OSError, match="No space left"):
            storage.append_line(file, b"a line for which there is no room")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    storage.append_line(file, b"four")
    assert file.read_bytes() == b"one\ntw\na line for wh\nfour\n"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "device"])
def test_what_is_no_regular_file_is_not_read_and_leaves_nothing_open(kind: str, tmp_path: Path) -> None:
    path = tmp_path / kind if kind != "device" else Path("/dev/zero")
    (tmp_path / "file").write_bytes(b"bytes")
    match kind:
        case "link":
            path.symlink_to(tmp_path / "file")
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
    before = os.listdir("/proc/self/fd")
    for read in (storage.read_file, storage.sha256_file):
        with pytest.raises(OSError, match=r".+"):
            read(path)
    assert os.listdir("/proc/self/fd") == before
    assert storage.read_file(tmp_path / "file") == b"bytes"


def test_a_line_waits_for_one_that_is_being_written(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    with file.open("ab", buffering=0) as other, ThreadPoolExecutor(1) as thread:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write(b"the half ")
        mine = thread.submit(storage.append_line, file, b"mine")
        with pytest.raises(TimeoutError):
            mine.result(0.2)
        other.write(b"of a line\n")
        fcntl.flock(other, fcntl.LOCK_UN)
        mine.result(10)
    assert file.read_bytes() == b"the half of a line\nmine\n"
