"""A limit on processes and threads, by the pids controller of cgroups.

Root alone may set one, and not in every container: `PidsGroup.is_available` says whether this process can. (``ulimit -u``
counts all processes of a user, and does not hold for root.)
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.processes import wait_for

_ROOT = Path("/sys/fs/cgroup")
_numbers = itertools.count()


class PidsGroup:
    """A group of processes, gone at the end; whatever runs in it must have ended by then.

    Args:
        most: processes and threads.

    Attributes:
        under: a command that runs another one, which comes after it, in the group.
    """

    def __init__(self, most: int) -> None:
        self._directory = _parent() / f"graftwork-{os.getpid()}-{next(_numbers)}"
        self._directory.mkdir()
        self.limit(most)
        self.under: Sequence[str] = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self._directory / "cgroup.procs")]

    @staticmethod
    def is_available() -> bool:
        """Whether there can be one."""
        try:
            with PidsGroup(10):
                return True
        except OSError:
            return False

    def limit(self, most: int) -> None:
        """Sets another limit; those above it that are there stay."""
        (self._directory / "pids.max").write_text(str(most))

    def count(self) -> int:
        """How many there are."""
        return int((self._directory / "pids.current").read_text())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        wait_for(self._remove, 10)

    def _remove(self) -> bool:
        with suppress(OSError):  # a zombie is still in it
            self._directory.rmdir()
        return not self._directory.exists()


def _parent() -> Path:
    """Of new groups: the first version of cgroups has a tree for each controller, the second one has one for all."""
    first = _ROOT / "pids"
    if first.is_dir():
        return first
    if "pids" in (_ROOT / "cgroup.subtree_control").read_text().split():
        return _ROOT
    raise OSError("the pids controller is not enabled")
