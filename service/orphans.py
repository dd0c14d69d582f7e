"""Processes that nobody waits for.

The first process of a container inherits every process whose parent has ended, such as one that a health check or ``docker
exec`` left behind, and must wait for its end: else it stays in the table of processes, which is bounded.
"""

from __future__ import annotations

import os
from collections.abc import Container
from contextlib import suppress

LOOK_SECONDS = 5.0


def reap_orphans(own: Container[int]) -> None:
    """Takes leave of children that have ended, but for those that somebody here waits for.

    Args:
        own: pids of the latter. While one of them has ended and was not waited for, orphans may have to wait too.
    """
    with suppress(ChildProcessError):  # there are no children at all
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid not in own:
            os.waitpid(ended.si_pid, 0)
