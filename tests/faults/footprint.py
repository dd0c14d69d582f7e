"""What the processes of a server take of their machine."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.faults.load import run_load
from tests.server_process import ServerProcess

MEBI = 1 << 20

# Pss_Anon counts every page once, however many processes share it after a fork, and no page of a file, of which another program
# on the machine may have a copy. (proc_pid_smaps(5))
_MEMORY = re.compile(r"^(?:Pss_Anon|SwapPss): +(\d+) kB$", re.MULTILINE)
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What all processes of a server together take.

    Attributes:
        memory: bytes that they alone use, each counted once.
        files: that they have open: sockets, pipes, files.
    """

    memory: int
    files: int

    def growth(self, before: Footprint) -> Footprint:
        """How much more it is than before."""
        return Footprint(memory=self.memory - before.memory, files=self.files - before.files)


def footprint(server: ServerProcess) -> Footprint:
    """Of a server as it is now; of what it just did, some may still be on its way out."""
    memory = files = 0
    for pid in server.survivors():
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            memory += sum(map(int, _MEMORY.findall(rollup))) * 1024
            files += len(os.listdir(f"/proc/{pid}/fd"))
    return Footprint(memory=memory, files=files)


def warm_up(server: ServerProcess, requests: int = 4000) -> None:
    """Makes the echo server refuse requests until it has all that it only takes once.

    Most of it is the first full garbage collection of the API process: it writes to every object that it has in common with
    its parent, of which it was forked, and a page that is written to is no longer shared.
    """
    tally = run_load(server.port, connections=32, requests=requests, start="bad ")
    assert tally.client_errors == requests, tally.summary()


class Peak:
    """The most memory that the processes of a server have had since now."""

    def __init__(self, server: ServerProcess) -> None:
        self._pids = server.survivors()
        for pid in self._pids:
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak starts again from what is there now
        self._before = self._peaks()

    def rise(self) -> int:
        """By how many bytes the highest process has risen above what it had; pages of files count too."""
        return max(peak - before for peak, before in zip(self._peaks(), self._before, strict=True))

    def _peaks(self) -> list[int]:
        statuses = [Path(f"/proc/{pid}/status").read_text() for pid in self._pids]
        return [int(_PEAK.findall(status)[0]) * 1024 for status in statuses]
