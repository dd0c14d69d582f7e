"""Processes of this machine, and waiting for what they do."""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def wait_for(
    condition: Callable[[], object], seconds: float, explain: Callable[[], str] = lambda: "", *, pause: float = 0.03
) -> None:
    """Looks again and again; fails with an explanation where it takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(pause)


def assert_true(value: bool) -> None:
    assert value


def free_port() -> int:
    """A port that nobody listens on; not one of those that clients get, as one of them may take it before it is used."""
    while True:
        port = random.randint(10_000, 30_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def running() -> list[int]:
    """Every process but zombies."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and process_state(int(name)) not in "ZX"]


def children(pid: int) -> list[int]:
    return [child for child in running() if _stat(child)[1:2] == [str(pid)]]


def process_state(pid: int) -> str:
    return (_stat(pid) or ["X"])[0]


def process_group(pid: int) -> int:
    return int((_stat(pid) or ["", "", "-1"])[2])


def _stat(pid: int) -> list[str]:
    """State, parent, process group, ... (proc(5), after the name in brackets); nothing where the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def resident_bytes(pid: int) -> int:
    """Memory of a process (proc(5), VmRSS)."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024
