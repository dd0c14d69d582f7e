"""Every step that changes the file system, so that a test can fail or stop each of them.

Each function is one step of a publish, an alias change or a delete, or made of such steps. `trace`, when set, is called
with the step's name before it runs; a test makes it raise at the k-th step for every k.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from models.errors import StorageFailed

trace: Callable[[str], None] | None = None

_STAGING = ".staging-"  # begins the name of everything that is unfinished, and of what is being removed


def _step(name: str) -> None:
    if trace is not None:
        trace(name)


@contextmanager
def reporting(failure: str) -> Iterator[None]:
    """Turns an `OSError` into `StorageFailed`.

    Args:
        failure: what the error says before the operating system's reason.
    """
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"{failure}: {error.strerror or error}") from error


def make_directory(path: Path) -> None:
    """Creates a directory and those above it; one that exists is fine."""
    _step("mkdir")
    path.mkdir(parents=True, exist_ok=True)


def write_file(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Writes a new file and waits until its bytes are on the disk.

    Args:
        mode: who may read and write it, before the umask.
    """
    _step("open")
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        _step("write")
        file.write(data)
        file.flush()
        _step("fsync")
        os.fsync(file.fileno())


def sync_file(path: Path) -> None:
    """Waits until the bytes of a file that a library wrote are on the disk."""
    _step("fsync")
    with open(path, "rb") as file:
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


def replace_file(path: Path, data: bytes, *, staged_in: Path | None = None, mode: int = 0o666) -> None:
    """Replaces a file atomically: a reader sees the old bytes or the new ones.

    Args:
        path: the file.
        data: its new contents.
        staged_in: a directory of the same file system that the caller holds; the file's own without.
        mode: as in `write_file`.
    """
    staged = unfinished(staged_in or path.parent)
    try:
        write_file(staged, data, mode=mode)
        _step("replace")
        os.replace(staged, path)
    except Exception:
        with suppress(OSError):
            staged.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def append_line(path: Path, line: bytes, *, mode: int = 0o666) -> None:
    """Adds a line to a file in one write, and waits until it is on the disk; a file that is not there is made.

    Lines of several processes do not mix. What a write left that did not fit is ended first, so that it spoils no other line.

    Args:
        line: without its end.
        mode: as in `write_file`.
    """
    _step("open")
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # a file grows while it is written to: half a line would look torn
        size = os.fstat(descriptor).st_size
        is_torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        data = (b"\n" if is_torn else b"") + line + b"\n"
        _step("write")
        if os.write(descriptor, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        _step("fsync")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Removes a file, or a directory and all in it; one that is gone is fine."""
    _step("remove")
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def touch(path: Path) -> None:
    """Marks a file or directory as used now: its modification time says when it last was."""
    _step("touch")
    os.utime(path)


def unfinished(directory: Path) -> Path:
    """A new name in a directory that nobody reads, and that `sweep` removes."""
    return directory / f"{_STAGING}{secrets.token_hex(8)}"


def sweep(directory: Path) -> None:
    """Removes what processes that died left in a directory, as far as it can. The caller holds the directory."""
    for leftover in leftovers(directory):
        with suppress(OSError):
            remove(leftover)


def leftovers(directory: Path) -> Iterator[Path]:
    """What `sweep` removes. The caller holds the directory."""
    for leftover in directory.glob(f"{_STAGING}*"):
        with suppress(OSError):
            if not leftover.is_dir():
                yield leftover
                continue
            with locked_if_free(leftover) as free:
                dead = free
            if dead:
                yield leftover


@contextmanager
def staging(directory: Path) -> Iterator[Path]:
    """A new, empty directory inside another one, held until the block ends; removed unless it was renamed.

    What processes that died left in ``directory`` is swept first.
    """
    path = unfinished(directory)
    with ExitStack() as held:
        try:
            with locked(directory):
                sweep(directory)
                make_directory(path)
                held.enter_context(locked(path))  # before anyone else can sweep
            yield path
        finally:
            with suppress(OSError):
                remove(path)


def files_below(directory: Path | str, prefix: str = "") -> Iterator[str]:
    """Relative paths of all that is in a directory and is none itself; links are named, not followed.

    What cannot be read is left out. (In a sixth of the time that ``Path.rglob`` takes.)
    """
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from files_below(entry.path, f"{prefix}{entry.name}/")
            else:
                yield prefix + entry.name


def size_of(path: Path) -> int:
    """The bytes of a file, or of all files below a directory; what vanishes meanwhile counts for nothing."""
    files = [path / name for name in files_below(path)] if path.is_dir() else [path]
    total = 0
    for file in files:
        with suppress(OSError):
            total += file.lstat().st_size
    return total


def last_change(path: Path) -> float:
    """When a file, or anything in a directory, was last written or touched: seconds since the epoch."""
    last = path.stat().st_mtime
    for name in files_below(path) if path.is_dir() else ():
        with suppress(OSError):
            last = max(last, (path / name).lstat().st_mtime)
    return last


def open_regular(path: Path) -> io.BufferedReader:
    """Opens a regular file for reading; `OSError` for a link, a pipe, a folder or a device, without waiting for anybody."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return os.fdopen(descriptor, "rb")


def read_file(path: Path) -> bytes:
    """The bytes of a regular file; raises as `open_regular`."""
    with open_regular(path) as file:
        return file.read()


def sha256_file(path: Path) -> str:
    """The sha256 of a regular file's bytes, in hex; raises as `open_regular`."""
    with open_regular(path) as file:
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


@contextmanager
def locked_if_free(directory: Path) -> Iterator[bool]:
    """Holds a directory as `locked` does, unless somebody else does: then it says False, and does not wait."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
