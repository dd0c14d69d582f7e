"""What this process asks of the file system, as the interpreter's audit events tell it (PEP 578)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_EVENTS = frozenset(
    [
        "open",
        "os.listdir",
        "os.scandir",
        "os.mkdir",
        "os.rmdir",
        "os.remove",
        "os.rename",
        "os.link",
        "os.symlink",
        "os.truncate",
        "os.chmod",
        "os.chown",
        "os.utime",
        "os.chdir",
        "os.walk",
        "glob.glob",
        "pathlib.Path.glob",
        "shutil.rmtree",
        "shutil.move",
        "shutil.copyfile",
    ]
)

_listening: list[list[Path]] = []
_hooked = False


@contextmanager
def touched_files() -> Iterator[list[Path]]:
    """Every path that any thread opens, lists or changes meanwhile."""
    global _hooked
    if not _hooked:  # for good: there is no way to take a hook back
        sys.addaudithook(_hook)
        _hooked = True
    paths: list[Path] = []
    _listening.append(paths)
    try:
        yield paths
    finally:
        _listening.remove(paths)


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if _listening and event in _EVENTS:
        path = arguments[0] if arguments else "."
        if isinstance(path, (str, bytes, os.PathLike)):
            found = Path(os.path.abspath(os.fsdecode(path)))
            for paths in _listening:
                paths.append(found)
