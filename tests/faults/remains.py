"""What a server leaves behind when it has ended."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from tests.faults.echo_server import EchoServer
from tests.faults.figure import Figure

GONE_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Remains:
    """Of one server.

    Attributes:
        gone_after: seconds until no process of it ran and its port was free; or until one had waited long enough.
        processes: that still run.
        ports: that are still taken.
        files: that it did not remove.
    """

    gone_after: float
    processes: int
    ports: int
    files: int


def remains_of(server: EchoServer) -> Remains:
    """Called at the moment when the server's own process has ended."""
    ended = time.monotonic()
    while (server.survivors() or not is_free(server.port)) and time.monotonic() < ended + GONE_SECONDS:
        time.sleep(0.01)
    return Remains(
        gone_after=time.monotonic() - ended,
        processes=len(server.survivors()),
        ports=int(not is_free(server.port)),
        files=len(server.runtime_files()),
    )


def figures_of(goal: str, remains: Sequence[Remains], *, files: bool = True, slack: float = 1.0) -> list[Figure]:
    """Of several servers.

    Args:
        goal: that the figures belong to.
        remains: of each.
        files: False where it was not able to remove them.
        slack: factor on the bar on time.
    """
    gone_after = max(each.gone_after for each in remains)
    return [
        Figure(goal=goal, name="processes left", value=sum(each.processes for each in remains), bar=0),
        Figure(goal=goal, name="ports left", value=sum(each.ports for each in remains), bar=0),
        Figure(goal=goal, name="files left", value=sum(each.files for each in remains), bar=0 if files else None),
        Figure(
            goal=goal, name="all gone after, most", value=gone_after, unit="s", relation="<=", bar=GONE_SECONDS * slack
        ),
    ]


def is_free(port: int) -> bool:
    """Whether another server could listen there."""
    with suppress(OSError), socket.create_server(("127.0.0.1", port)):
        return True
    return False
