"""How an export comes to lie where it was asked for: whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from models import storage
from models.errors import InvalidParameter

CANNOT_WRITE = "the export cannot be written"


@contextmanager
def staged_beside(directory: Path) -> Iterator[Path]:
    """A new, empty directory of the same file system, which is gone when the block ends unless it was renamed.

    It lies beside the directory and not in it, where a Triton that polls would take it for a model; only of a volume, whose
    neighbours are on another file system, it lies in it.
    """
    directory = directory.resolve()  # a link may lead to another file system
    place = directory if os.path.ismount(directory) else directory.parent
    path = storage.unfinished(place)
    try:
        storage.make_directory(path)
        yield path
    finally:
        if path.exists():
            with suppress(OSError):
                storage.remove(path)


def place(staged: Path, target: Path) -> None:
    """Gives a directory its final name once all of it is on the disk; `OSError` where the name is taken by a directory with files."""
    for name in storage.files_below(staged):
        storage.sync_file(staged / name)
    for folder in [staged, *(each for each in staged.rglob("*") if each.is_dir())]:
        storage.sync_directory(folder)
    target = target.resolve()  # a directory cannot take the place of a link
    storage.make_directory(target.parent)
    storage.rename(staged, target)
    storage.sync_directory(target.parent)


def check_empty(directory: Path) -> None:
    """Raises `InvalidParameter` where a directory has anything in it, is none, or is a volume, which cannot be renamed to."""
    if os.path.ismount(directory.resolve()):
        raise InvalidParameter(f"{directory} is a volume of its own; name a new directory in it")
    if directory.is_dir():
        if any(directory.iterdir()):
            raise InvalidParameter(f"{directory} is not empty; name a new directory")
    elif directory.exists() or directory.is_symlink():
        raise InvalidParameter(f"{directory} is no directory; name a new one")
