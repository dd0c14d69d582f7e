"""How many processor cores this process may use."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path


def available_cores(control_group: Path = Path("/sys/fs/cgroup")) -> int:
    """The cores that this process may run on, or, in a container, those that its quota of time comes to, rounded up.

    More threads than that would use the quota up at the beginning of each period, and then all stand still together.

    Args:
        control_group: where a container sees its own limits.
    """
    return min([len(os.sched_getaffinity(0)), *_quotas(control_group)])


def _quotas(control_group: Path) -> list[int]:
    found = []
    with suppress(OSError, ValueError, ZeroDivisionError):  # version 2: "max 100000" where there is no quota
        quota, period = (control_group / "cpu.max").read_text().split()
        found.append(_cores(int(quota), int(period)))
    with suppress(OSError, ValueError, ZeroDivisionError):  # version 1: -1 where there is none
        quota_us = int((control_group / "cpu/cpu.cfs_quota_us").read_text())
        if quota_us > 0:
            found.append(_cores(quota_us, int((control_group / "cpu/cpu.cfs_period_us").read_text())))
    return found


def _cores(quota: int, period: int) -> int:
    return max(1, math.ceil(quota / period))
