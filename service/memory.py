"""How much memory this process may use."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")  # of control groups, version 2 and 1


def memory_bytes(control_group: Path = Path("/sys/fs/cgroup")) -> int:
    """The memory of this machine, or what its container may have of it.

    Args:
        control_group: where a container sees its own limits.
    """
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _LIMITS:
        with suppress(OSError, ValueError):  # not there, or "max"
            found.append(int((control_group / file).read_text()))
    return min(found)
