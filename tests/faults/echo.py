"""A real server whose engine is an echo: the label of a text is its sha256, so that lost, wrong and crossed answers are seen.

    python -m tests.faults.echo --port 8000 --delay 0.005 '{"workers": 2}'

It serves ``echo:1`` and ``other:1`` from a repository of its own, without torch: a worker is back within a second. Some texts
do harm; each of these words may be followed by anything.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

from models.batch_cost import UNMEASURED, BatchCost
from models.errors import EmptyText, VersionNotFound
from service.messages import Serving
from service.settings import ServerSettings
from service.worker.pending import PendingRow
from service.worker.servable import Prepared

MODELS = ("echo", "other")

CRASH = b"crash"  # ends the worker that computes it
CRASH_DECODER = b"segfault"  # ends the worker that decodes it
HANG = b"hang"  # is computed for ever
BAD = b"bad"  # is refused while it is decoded
BUG = b"bug"  # fails the batch that it is in
FAT = b"fat"  # needs more memory than there is for two rows at once
OBESE = b"obese"  # needs more memory than there is at all
SLOW = b"slow"  # keeps the device busy, so that what comes meanwhile shares the next batch

SLOW_SECONDS = 0.025


@dataclass(frozen=True, kw_only=True)
class Echo:
    """A version; a `service.worker.servable.Servable`.

    Attributes:
        batch_seconds: that any batch takes.
        row_seconds: that each of its rows takes beside.
        leak_bytes: a row that are never given back.
    """

    backbone: str
    streams: ClassVar[int] = 1
    cost: ClassVar[BatchCost] = UNMEASURED
    serving: ClassVar[Serving] = Serving(engine="echo", precision="fp32", reason="it is the only one")
    batch_seconds: float
    row_seconds: float
    leak_bytes: int = 0
    leaked: list[bytes] = field(default_factory=list)

    def prepare(self, item: bytes, *, truncate: bool) -> Prepared:
        if item.startswith(BAD):
            raise EmptyText("this text is bad")
        if item.startswith(CRASH_DECODER):
            os.kill(os.getpid(), signal.SIGKILL)
        return Prepared(item, self.backbone)

    def compute(self, batch: Sequence[PendingRow]) -> Sequence[Mapping[str, object]]:
        rows: list[bytes] = [waiting.row for waiting in batch]
        for row in rows:
            if row.startswith(CRASH):
                os.kill(os.getpid(), signal.SIGKILL)
            if row.startswith(HANG):
                time.sleep(3600)
            if row.startswith(BUG):
                raise RuntimeError("a bug")
            if row.startswith(OBESE) or (row.startswith(FAT) and len(rows) > 1):
                raise MemoryError
        if self.leak_bytes:
            self.leaked.extend(b"x" * self.leak_bytes for _ in rows)
        seconds = self.batch_seconds + self.row_seconds * len(rows)
        seconds += SLOW_SECONDS * any(row.startswith(SLOW) for row in rows)
        if seconds:
            time.sleep(seconds)
        labels = [hashlib.sha256(row).hexdigest() for row in rows]
        return [{"label": label, "score": 1.0, "scores": {label: 1.0}} for label in labels]


class Echoes:
    """All versions; a `service.worker.servable.Servables`."""

    def __init__(self, echo: Echo) -> None:
        self._echo = echo

    def load(self, name: str, number: int) -> Echo:
        return self.get(name, number)

    def unload(self, name: str, number: int) -> None:
        pass

    def get(self, name: str, number: int) -> Echo:
        if name not in MODELS:
            raise VersionNotFound("there is no such echo")
        return self._echo


def open_nothing(settings: ServerSettings, device: str, threads: int) -> Echoes:
    raise RuntimeError("this worker cannot start")


def open_echoes(
    batch_seconds: float, row_seconds: float, leak_bytes: int, settings: ServerSettings, device: str, threads: int
) -> Echoes:
    return Echoes(Echo(backbone="echo", batch_seconds=batch_seconds, row_seconds=row_seconds, leak_bytes=leak_bytes))


def write_manifests(root: Path) -> None:
    """A repository that holds no more than the server's own process reads."""
    for name in MODELS:
        directory = root / name / "1"
        directory.mkdir(parents=True)
        manifest = {
            "name": name,
            "number": 1,
            "task": "single-label",
            "modality": "text",
            "labels": ["yes", "no"],
            "backbone": {"source": "echo", "digest": "echo", "feature_dim": 1},
            "preprocessor": {"modality": "text", "max_tokens": 64},
            "heads": {"fp32": {"engine": {"identity": "echo"}, "calibration": {}}},
            "created_at": "2026-01-01T00:00:00Z",
            "libraries": {},
        }
        (directory / "manifest.json").write_text(json.dumps(manifest))


def main() -> None:
    """Serves until a signal."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.echo")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds a batch")
    parser.add_argument("--row-delay", type=float, default=0.0, help="seconds a row beside")
    parser.add_argument("--leak", type=int, default=0, help="bytes a row that a worker never gives back")
    parser.add_argument("--broken", action="store_true", help="no worker can start")
    parser.add_argument("settings", nargs="?", default="{}", help="further settings of the server, as JSON")
    arguments = parser.parse_args()

    from service.cli import WORKER_ENVIRONMENT, exit_at_once

    signal.signal(signal.SIGTERM, exit_at_once)
    from service.log import configure_logging
    from service.substrate import GraftworkServer

    for name, value in WORKER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    configure_logging()
    with tempfile.TemporaryDirectory(prefix="graftwork-echo-") as directory:
        write_manifests(Path(directory))
        fields = {"repository": directory, "port": arguments.port, "device": "cpu", **json.loads(arguments.settings)}
        opens = partial(open_echoes, arguments.delay, arguments.row_delay, arguments.leak)
        server = GraftworkServer(
            ServerSettings.model_validate(fields), "0", open_nothing if arguments.broken else opens
        )
        code = server.serve()
    sys.exit(code)


if __name__ == "__main__":
    main()
