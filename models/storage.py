"""Every step that changes the file system, so that a test can fail or stop each of them.

Each function is one step of a publish, an alias change or a delete. `trace`, when set, is called with the step's name
before it runs; a test makes it raise at the k-th step for every k.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

trace: Callable[[str], None] | None = None


def _step(name: str) -> None:
    if trace is not None:
        trace(name)


def make_directory(path: Path) -> None:
    """Creates a directory and those above it; one that exists is fine."""
    _step("mkdir")
    path.mkdir(parents=True, exist_ok=True)


def write_file(path: Path, data: bytes) -> None:
    """Writes a new file and waits until its bytes are on the disk."""
    _step("open")
    with open(path, "xb") as file:
        _step("write")
        file.write(data)
        file.flush()
        _step("fsync")
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Waits until a directory's entries are on the disk."""
    _step("fsync-directory")
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename(source: Path, target: Path) -> None:
    """Gives a directory its final name; `OSError` where the target exists and is not empty."""
    _step("rename")
    os.rename(source, target)


def replace_file(path: Path, data: bytes) -> None:
    """Replaces a file atomically: a reader sees the old bytes or the new ones."""
    staged = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        write_file(staged, data)
        _step("replace")
        os.replace(staged, path)
    except Exception:
        staged.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def remove_tree(path: Path) -> None:
    """Removes a directory and all in it; one that is gone is fine."""
    _step("remove")
    shutil.rmtree(path, ignore_errors=False, onerror=_gone_is_fine)


def _gone_is_fine(_function: object, _path: object, error: tuple[type, BaseException, object]) -> None:
    if not isinstance(error[1], FileNotFoundError):
        raise error[1]


def sha256_file(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Holds a directory, over processes; the lock goes with the process that holds it."""
    _step("lock")
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def is_locked(directory: Path) -> bool:
    """Whether some process holds a directory now."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
