"""Another server beside ours, and how all but the one that is measured are kept from the cores."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.processes import wait_for
from tests.server_process import ServerProcess


@dataclass(kw_only=True)
class Peer(ServerProcess):
    """What we serve, on another server.

    Attributes:
        arguments: of the Python that runs it, but for the port.
        python: that runs it.
        probe: a request's path, body and media type; it is ready once it answers that.
    """

    repository: Path = Path()
    arguments: Sequence[str]
    python: str = sys.executable
    probe: tuple[str, bytes, str]

    def command(self) -> Sequence[str]:
        return [self.python, "-m", *self.arguments, f"--port={self.port}"]

    def wait_until_ready(self, seconds: float = 180.0) -> None:
        wait_for(self._answers, seconds, self.log.read_text)

    def _answers(self) -> bool:
        path, body, content_type = self.probe
        try:
            return self.request("POST", path, body, {"Content-Type": content_type}).status == 200
        except OSError:
            assert self.process.poll() is None, self.log.read_text()
            return False


def stop(server: ServerProcess) -> None:
    """Lets it stand still: some servers are busy when they are idle."""
    os.killpg(server.process.pid, signal.SIGSTOP)


@contextmanager
def awake(server: ServerProcess) -> Iterator[None]:
    """It runs in the block, and stands still after it."""
    os.killpg(server.process.pid, signal.SIGCONT)
    try:
        yield
    finally:
        stop(server)
