"""What the processes of a server load, run and speak to, as the interpreter's audit events tell it (PEP 578)."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_HOOK = Path(__file__).with_name("watched")


@dataclass(frozen=True, kw_only=True)
class Note:
    """One audit event.

    Attributes:
        what: its arguments, or the file that it reads.
        stack: the innermost call first, as ``file:function``.
    """

    pid: int
    event: str
    what: str
    stack: tuple[str, ...]

    @property
    def is_allowed(self) -> bool:
        """Whether a server may do it, which is as narrow as can be.

        - It starts itself anew, as the first thing of all, in the environment that C libraries read.
        - LitServe starts its workers with multiprocessing's ``spawn``, which hands them what they work on as a pickle, over a
          pipe that only their parent has, once, before they do anything else.
        - A library that torch imports asks the system's linker where a library is.
        - Processes of a server speak to each other over a local socket.
        """
        by = self.stack[0]
        match self.event:
            case "os.exec":
                return by.endswith("models/compute_environment.py:restart_with")
            case "pickle.find_class":
                return by.endswith("multiprocessing/spawn.py:_main")
            case "subprocess.Popen":
                asks = any(call.endswith("ctypes/util.py:_findSoname_ldconfig") for call in self.stack)
                return asks and self.what.startswith("('/sbin/ldconfig', ['/sbin/ldconfig', '-p'], None, {")
            case "socket.connect":
                return self.what.startswith(f"{socket.AF_UNIX!s} ")
        return False

    def __str__(self) -> str:
        return "\n    ".join([f"{self.pid} {self.event} {self.what}", *self.stack])


class Watch:
    """Notes of all processes that are started with `environment`, and of those that they start.

    Args:
        directory: for the notes.
        root: a folder from which nothing may be executed.
    """

    def __init__(self, directory: Path, root: Path) -> None:
        self._notes = directory / "notes"
        self.environment: Mapping[str, str] = {
            "PYTHONPATH": os.pathsep.join([str(_HOOK), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "WATCH_NOTES": str(self._notes),
            "WATCH_ROOT": f"{root}/",
        }

    def notes(self) -> Sequence[Note]:
        """So far."""
        lines = [json.loads(line) for line in self._notes.read_text().splitlines()]
        return [Note(**{**line, "stack": tuple(line["stack"])}) for line in lines]

    def forbidden(self) -> Sequence[str]:
        """What was done and must not be."""
        return [str(note) for note in self.notes() if not note.is_allowed]


def watched(pid: int) -> bool:
    """Whether a process was started with the hook."""
    with suppress(OSError):
        return f"{_HOOK}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    return False


def internet_sockets(pid: int) -> Iterator[tuple[int, int]]:
    """The ports of a process's TCP and UDP sockets, ours and the other's: the kernel's word, whoever made them.

    uvloop connects without the interpreter.
    """
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            inodes.add(os.readlink(descriptor).removeprefix("socket:[").removesuffix("]"))
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes:
                yield int(fields[1].rpartition(":")[2], 16), int(fields[2].rpartition(":")[2], 16)
