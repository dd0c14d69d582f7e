"""The echo server as a process of its own; see `tests.faults.echo`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

from models.backbone import Modality
from tests.server_process import ServerProcess


@dataclass(kw_only=True)
class EchoServer(ServerProcess):
    """``echo:1`` and ``other:1`` behind a real server.

    Attributes:
        delay: seconds a batch.
        row_delay: seconds a row beside.
        leak: bytes a row that a worker never gives back.
        broken: no worker can start.
        modality: what it says that it reads.
        under: a command that runs the server's own, which comes after it.
        settings: further `service.settings.ServerSettings`.
    """

    repository: Path = Path()
    delay: float = 0.0
    row_delay: float = 0.0
    leak: int = 0
    broken: bool = False
    modality: Modality = Modality.TEXT
    under: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def command(self) -> Sequence[str]:
        options = [
            f"--{name.replace('_', '-')}={getattr(self, name)}"
            for name in ("port", "delay", "row_delay", "leak", "modality")
        ]
        options += ["--broken"] * self.broken
        return [*self.under, sys.executable, "-m", "tests.faults.echo", *options, json.dumps(self.settings)]

    def answers(self, **headers: str) -> bool:
        """Whether a request on a fresh connection gets its own answer."""
        text = uuid4().hex
        reply = self.predict("echo", [text], **headers)
        return reply.status == 200 and reply.json()["predictions"][0]["label"] == sha256(text.encode()).hexdigest()


@contextmanager
def echo_server(
    *,
    delay: float = 0.0,
    row_delay: float = 0.0,
    leak: int = 0,
    broken: bool = False,
    under: Sequence[str] = (),
    ready: bool = True,
    **settings: Any,
) -> Iterator[EchoServer]:
    """An echo server, gone at the end; at the start it is waited for, unless it need not be ``ready``."""
    server = EchoServer(delay=delay, row_delay=row_delay, leak=leak, broken=broken, under=under, settings=settings)
    try:
        if ready:
            server.wait_until_ready()
        yield server
    finally:
        server.destroy()
