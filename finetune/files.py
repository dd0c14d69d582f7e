"""Files below a dataset's folder: opened without following links, so that a dataset cannot reach outside of itself."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Sequence
from pathlib import Path, PurePath

from finetune.findings import printable
from models.errors import DatasetInvalid


def list_folder(folder: Path) -> list[str]:
    """Sorted names in a folder, without hidden ones and what archivers leave behind.

    Raises:
        DatasetInvalid: it cannot be listed.
    """
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith((".", "__MACOSX")))
    except OSError as error:
        message = f"cannot be listed ({error.strerror}); correct its permissions"
        raise DatasetInvalid(message, file=printable(folder.name)) from error


def hidden_folders(folder: Path) -> list[str]:
    """Sorted names of the folders that `list_folder` leaves out and that hold something."""
    found = [Path(entry.path) for entry in os.scandir(folder) if entry.name.startswith(".") and entry.is_dir()]
    return sorted(path.name for path in found if any(path.iterdir()))


def open_inside(root: Path, relative: PurePath, *, file: str, line: int | None = None) -> io.BufferedReader:
    """Opens a regular file below ``root`` for reading, following no symbolic link on the way down.

    Each folder is opened relative to the one before, so that none can be swapped for a link in between. ``root`` itself
    is the user's own word and may be reached through links.

    Args:
        root: the folder to stay in.
        relative: the file, from ``root``.
        file: what an error should name.
        line: 1-based line that an error should name.

    Raises:
        DatasetInvalid: outside of ``root``, a link, not a regular file, absent or unreadable.
    """
    name = "the file" if file == str(relative) else f"'{printable(str(relative))}'"
    if relative.is_absolute() or ".." in relative.parts or not relative.parts:
        raise DatasetInvalid(f"{name} is not inside the dataset's folder; move it there", file=file, line=line)
    *folders, last = relative.parts
    try:
        # O_NONBLOCK: opening a FIFO must not wait for its writer.
        descriptor = _descend(root, folders, last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise DatasetInvalid(f"{name} {_reason(error)}", file=file, line=line) from error
    except ValueError as error:  # a NUL in the name
        raise DatasetInvalid(f"{name} is not a file name", file=file, line=line) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DatasetInvalid(f"{name} is not a regular file; remove it", file=file, line=line)
    return os.fdopen(descriptor, "rb")


def _descend(root: Path, folders: Sequence[str], last: str, flags: int) -> int:
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for folder in folders:
            below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = below
        return os.open(last, flags, dir_fd=here)
    finally:
        os.close(here)


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "does not exist; correct the path, which counts from the dataset's folder"
    if error.errno in (errno.ELOOP, errno.ENOTDIR):  # Linux says ENOTDIR for a link where a folder should be
        return "goes through a symbolic link or a file; links are not followed, put the file itself there"
    return f"cannot be read ({error.strerror}); correct its permissions or remove it"
