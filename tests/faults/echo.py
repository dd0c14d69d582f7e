"""A real server whose engine is an echo: the label of a text is its sha256, so that lost, wrong and crossed answers are seen.

    python -m tests.faults.echo --port 8000 --delay 0.005 '{"workers": 2}'

It serves ``echo:1``, ``echo:2`` and ``other:1`` from a repository of its own, without torch: a worker is back within a second. A
prediction says which version computed it (tensors do not); ``echo:3`` cannot be loaded. Some texts do harm; each of these words may be followed
by anything.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import ClassVar

from models.backbone import BackboneConfig, Modality, backbone_digest
from models.batch_cost import UNMEASURED, BatchCost
from models.deployment import Deployment
from models.errors import EmptyText, VersionCorrupt, VersionNotFound
from models.manifest import BackboneReference, Calibration, EngineReference, HeadRecord, Manifest
from models.precision import Precision
from models.preprocessor import ImagePreprocessorConfig, PreprocessorConfig, TextPreprocessorConfig
from models.signature import EMBEDDING, LABEL, LOGITS, PROBABILITIES
from models.task import Task
from service.messages import Form, Serving, pack_element
from service.settings import ServerSettings
from service.worker.pending import PendingRow
from service.worker.servable import Computed, Prepared

VERSIONS = {"echo": (1, 2, 3), "other": (1,)}
BROKEN = 3

CRASH = b"crash"  # ends the worker that computes it
CRASH_DECODER = b"segfault"  # ends the worker that decodes it
HANG = b"hang"  # is computed for ever
BAD = b"bad"  # is refused while it is decoded
BUG = b"bug"  # fails the batch that it is in
FAT = b"fat"  # needs more memory than there is for two rows at once
OBESE = b"obese"  # needs more memory than there is at all
SLOW = b"slow"  # keeps the device busy, so that what comes meanwhile shares the next batch

SLOW_SECONDS = 0.025

PREPROCESSORS: dict[Modality, PreprocessorConfig] = {
    Modality.TEXT: TextPreprocessorConfig(max_tokens=64),
    Modality.IMAGE: ImagePreprocessorConfig(
        input_size=(3, 8, 8), interpolation="bilinear", crop_pct=1.0, crop_mode="center"
    ),
}
TENSORS = {  # a row's part of each, but for its label
    PROBABILITIES: struct.pack("<2f", 1, 0),
    LOGITS: struct.pack("<2f", 1, 0),
    EMBEDDING: struct.pack("<f", 1),
}


@dataclass(frozen=True, kw_only=True)
class Echo:
    """A version; a `service.worker.servable.Servable`.

    Attributes:
        number: of the version.
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
    number: int = 1

    def prepare(self, item: bytes, form: Form = "item", *, truncate: bool = False) -> Prepared:
        if item.startswith(BAD):
            raise EmptyText("this text is bad")
        if item.startswith(CRASH_DECODER):
            os.kill(os.getpid(), signal.SIGKILL)
        return Prepared(item, self.backbone)

    def compute(self, batch: Sequence[PendingRow]) -> Sequence[Computed]:
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
        return [_answer(waiting, hashlib.sha256(waiting.row).hexdigest()) for waiting in batch]


def _answer(waiting: PendingRow, label: str) -> Computed:
    if names := waiting.request.wish.outputs:
        parts = {**TENSORS, LABEL: pack_element(label.encode())}
        return [parts[name] for name in names]
    number = getattr(waiting.request.version, "number", 1)
    return {"label": label, "score": 1.0, "scores": {label: 1.0}, "computed_by": number}


class Echoes:
    """One echo for all versions; a `service.worker.servable.Servables`."""

    fleet = None

    def __init__(self, echo: Echo) -> None:
        self._echo = echo

    def load(self, name: str, number: int) -> Echo:
        return self.get(name, number)

    def unload(self, name: str, number: int) -> None:
        pass

    def get(self, name: str, number: int) -> Echo:
        if name not in VERSIONS:
            raise VersionNotFound("there is no such echo")
        return self._echo


class NumberedEchoes(Echoes):
    """An echo for each version, while that is loaded."""

    def __init__(self, echo: Echo) -> None:
        super().__init__(echo)
        self._loaded: dict[tuple[str, int], Echo] = {}

    def load(self, name: str, number: int) -> Echo:
        if number == BROKEN:
            raise VersionCorrupt("this echo is broken")
        self._loaded[name, number] = loaded = replace(self._echo, number=number)
        return loaded

    def unload(self, name: str, number: int) -> None:
        self._loaded.pop((name, number), None)

    def get(self, name: str, number: int) -> Echo:
        try:
            return self._loaded[name, number]
        except KeyError:
            raise VersionNotFound("this echo is not loaded") from None


def open_nothing(settings: ServerSettings, device: str, threads: int) -> Echoes:
    raise RuntimeError("this worker cannot start")


def open_echoes(
    batch_seconds: float, row_seconds: float, leak_bytes: int, settings: ServerSettings, device: str, threads: int
) -> Echoes:
    return NumberedEchoes(
        Echo(backbone="echo", batch_seconds=batch_seconds, row_seconds=row_seconds, leak_bytes=leak_bytes)
    )


def write_manifests(root: Path, modality: Modality = Modality.TEXT) -> None:
    """A repository that holds no more than the server's own process reads; nobody computes its backbone."""
    config = BackboneConfig(
        source="echo", library="transformers", architecture="echo", modality=modality, feature_dim=1
    ).to_json()
    digest = backbone_digest({"config.json": config})
    backbone = root / ".backbones" / digest
    backbone.mkdir(parents=True)
    (backbone / "config.json").write_bytes(config)
    for name, numbers in VERSIONS.items():
        for number in numbers:
            manifest = Manifest(
                name=name,
                number=number,
                task=Task.SINGLE_LABEL,
                modality=modality,
                labels=("yes", "no"),
                backbone=BackboneReference(source="echo", digest=digest, feature_dim=1),
                preprocessor=PREPROCESSORS[modality],
                heads={Precision.FP32: HeadRecord(engine=EngineReference(identity="echo"), calibration=Calibration())},
                created_at=datetime(2026, 1, 1, tzinfo=UTC),
                libraries={},
            )
            directory = root / name / str(number)
            directory.mkdir(parents=True)
            (directory / "manifest.json").write_text(manifest.model_dump_json())
    (root / "echo" / "deployment.json").write_text(Deployment(aliases={"champion": 1}).model_dump_json())
    (root / ".generation").write_bytes(b"0")


def main() -> None:
    """Serves until a signal."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.echo")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds a batch")
    parser.add_argument("--row-delay", type=float, default=0.0, help="seconds a row beside")
    parser.add_argument("--leak", type=int, default=0, help="bytes a row that a worker never gives back")
    parser.add_argument("--broken", action="store_true", help="no worker can start")
    parser.add_argument(
        "--modality", type=Modality, default=Modality.TEXT, help="what it says that it reads: bytes are echoed"
    )
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
        write_manifests(Path(directory), arguments.modality)
        fields = {"repository": directory, "port": arguments.port, "device": "cpu", **json.loads(arguments.settings)}
        opens = partial(open_echoes, arguments.delay, arguments.row_delay, arguments.leak)
        server = GraftworkServer(
            ServerSettings.model_validate(fields), "0", open_nothing if arguments.broken else opens
        )
        code = server.serve()
    sys.exit(code)


if __name__ == "__main__":
    main()
