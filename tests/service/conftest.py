"""An engine whose answers encode its inputs, a repository of tiny real models, and real server processes."""

from __future__ import annotations

import asyncio
import http.client
import io
import itertools
import json
import math
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from finetune.importing import import_classifier
from finetune.publishing import Graft, publish
from models.backbone import Modality
from models.batch import Batch, ImageBatch, Row, TextRow, collate
from models.engine import TorchEngine
from models.errors import EmptyText, VersionCorrupt, VersionNotFound
from models.features import FeatureKind, Features
from models.head import Head
from models.manifest import BackboneReference, Calibration, EngineReference, Manifest
from models.predictor import Predictor
from models.preprocessor import RawItem, TextPreprocessorConfig
from models.repository import ModelRepository
from models.sources import fetch_checkpoint
from models.task import Task
from models.version import ModelVersion
from service.api.application import Application
from service.flight_record import FlightRecord
from service.http.scope import CONNECTION
from service.messages import Hello
from service.settings import ServerSettings
from service.worker.loaded_version import LoadedVersion
from service.worker.worker import Worker

# An engine whose answers encode its inputs

SCALE = 1000.0
POISON = -1  # makes the engine raise
NOT_FINITE = -2  # makes it give a feature that is no number


class EchoEngine:
    """The feature of a text is its number, so that an answer shows for which text it is and through which head it went.

    Attributes:
        batches: the numbers of each batch that was asked for.
        gate: closed, it holds the device: rows that arrive meanwhile are the next batch.
    """

    identity = "echo"

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def features(self, batch: Batch, kind: FeatureKind) -> Features:
        assert not isinstance(batch, ImageBatch)
        numbers = batch.ids_BT[:, 0].tolist()
        self.batches.append(numbers)
        assert self.gate.wait(30)
        if POISON in numbers:
            raise RuntimeError("poison")
        features_BD = batch.ids_BT[:, :1].float() / SCALE
        features_BD[batch.ids_BT[:, 0] == NOT_FINITE] = torch.nan
        return Features(kind=kind, values=features_BD)

    def warm_up(self) -> None:
        pass


class EchoPreprocessor:
    """Reads texts such as ``17``, or ``17 0 0`` for a longer row; ``blank`` is no text, and ``?`` breaks it."""

    def prepare(self, item: RawItem, *, truncate: bool = False) -> Row:
        assert isinstance(item, str)
        if item == "blank":
            raise EmptyText("the text is empty")
        ids = [int(word) for word in item.split()]
        return TextRow(ids=ids, segments=[0] * len(ids), truncated=truncate)

    def collate(self, rows: Sequence[Row]) -> Batch:
        return collate(rows)


def decoded(predictions: Sequence[Mapping[str, Any]], weight: float) -> list[float]:
    """The numbers that answers are for, if they went through the head with this weight."""
    scores = [prediction["scores"] for prediction in predictions]
    return [round(math.log(each["yes"] / each["no"]) * SCALE / weight, 1) for each in scores]


def echo_version(engine: EchoEngine, name: str = "echo", number: int = 1, *, weight: float = 1.0) -> LoadedVersion:
    """A version on the echo engine with the labels ``yes`` and ``no``."""
    return LoadedVersion(
        manifest=text_manifest(name, number),
        backbone="echo-backbone",
        predictor=Predictor(
            preprocessor=EchoPreprocessor(),
            engine=engine,
            head=Head(weight_CD=torch.tensor([[weight], [0.0]]), bias_C=torch.zeros(2)),
            labels=("yes", "no"),
            temperature=1.0,
        ),
    )


def text_manifest(name: str, number: int, modality: Modality = Modality.TEXT) -> Manifest:
    return Manifest(
        name=name,
        number=number,
        task=Task.SINGLE_LABEL,
        modality=modality,
        labels=("yes", "no"),
        backbone=BackboneReference(source="echo", digest="echo-backbone", feature_dim=1),
        preprocessor=TextPreprocessorConfig(max_tokens=64),
        engine=EngineReference(identity="echo"),
        calibration=Calibration(),
        created_at=datetime.now(UTC),
        libraries={},
    )


class EchoRegistry:
    """What a worker serves, without a disk.

    Attributes:
        refused: why a version cannot be loaded, by number.
        on_load: called before a load ends.
    """

    def __init__(self, *versions: LoadedVersion) -> None:
        self.versions = {(v.manifest.name, v.manifest.number): v for v in versions}
        self.refused: dict[int, str] = {}
        self.loads: list[tuple[str, int]] = []
        self.unloads: list[tuple[str, int]] = []
        self.on_load: Callable[[str, int], None] = lambda name, number: None

    def load(self, name: str, number: int) -> LoadedVersion:
        self.loads.append((name, number))
        self.on_load(name, number)
        if number in self.refused:
            raise VersionCorrupt(self.refused[number])
        return self.get(name, number)

    def unload(self, name: str, number: int) -> None:
        self.unloads.append((name, number))

    def get(self, name: str, number: int) -> LoadedVersion:
        try:
            return self.versions[name, number]
        except KeyError:
            raise VersionNotFound("not loaded") from None


# Tiny real models

LETTERS = ("vowel", "consonant", "digit", "mark")
MOODS = ("glad", "sad")


def publish_texts(
    repository: ModelRepository, checkpoint_name: str, name: str, labels: Sequence[str], *, seed: int
) -> ModelVersion:
    """Publishes a random head on the tiny text encoder."""
    checkpoint = fetch_checkpoint(checkpoint_name)
    stored = repository.backbones.add(checkpoint)
    random = torch.Generator().manual_seed(seed)
    graft = Graft(
        name=name,
        backbone=stored,
        engine=TorchEngine(stored.load()),
        preprocessor=checkpoint.preprocessor,
        head=Head(
            weight_CD=torch.randn(len(labels), stored.config.feature_dim, generator=random),
            bias_C=torch.randn(len(labels), generator=random),
        ),
        labels=labels,
        temperature=1.0,
        golden_items=["one golden text", "and another one"],
    )
    return publish(repository, graft)


@pytest.fixture(scope="session")
def models_on_disk(tmp_path_factory: pytest.TempPathFactory, tiny_vision: str, tiny_text: str) -> Path:
    """A repository with ``colours:1`` for images, and ``letters:1`` and ``moods:1`` on one text encoder; read only."""
    repository = ModelRepository(tmp_path_factory.mktemp("models") / "repository")
    import_classifier(repository, tiny_vision, "colours")
    publish_texts(repository, tiny_text, "letters", LETTERS, seed=1)
    publish_texts(repository, tiny_text, "moods", MOODS, seed=2)
    return repository.root


@pytest.fixture
def texts_on_disk(tmp_path: Path, models_on_disk: Path) -> ModelRepository:
    """A copy with the text models only, to be changed at will."""
    copy_of_texts(models_on_disk, tmp_path / "repository")
    return ModelRepository(tmp_path / "repository")


def copy_of_texts(models_on_disk: Path, root: Path) -> None:
    """Copies the text models into a new repository, which appears in one step."""
    colours = ModelRepository(models_on_disk).read("colours", 1).manifest.backbone.digest
    staging = root.with_name("staging")
    shutil.copytree(models_on_disk, staging, ignore=shutil.ignore_patterns("colours", colours))
    staging.rename(root)


def picture(seed: int, *, size: tuple[int, int] = (48, 40), file_format: str = "PNG") -> bytes:
    """An image file unlike any with another seed."""
    pixels = torch.randint(0, 256, (6, 6, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    buffer = io.BytesIO()
    Image.frombytes("RGB", (6, 6), bytes(pixels.flatten().tolist())).resize(size).save(buffer, file_format)
    return buffer.getvalue()


# Requests


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An HTTP response, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def json_body(instances: object) -> bytes:
    return json.dumps({"instances": instances}).encode()


def samples(exposition: bytes, name: str) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(exposition.decode())
    found = [sample for family in families for sample in family.samples if sample.name == name]
    return {tuple(sample.labels.values()): sample.value for sample in found}


# The API process without a process


class Client:
    """The connection of a client that may hang up.

    Attributes:
        callback: what is to be called then.
    """

    def __init__(self) -> None:
        self.callback: Callable[[], None] | None = None

    def on_disconnect(self, callback: Callable[[], None] | None) -> None:
        self.callback = callback

    def hang_up(self) -> None:
        assert self.callback is not None
        self.callback()


MAX_BATCH_ROWS = 8
NO_PID = 1 << 30  # and above: no process has such a number, so that a worker in a thread can be killed without harm


class Site:
    """The whole application in this process; its workers are threads on the echo engine.

    Args:
        application: running.
        path: of the socket that workers connect to.
    """

    def __init__(self, application: Application, path: str) -> None:
        self.application = application
        self.engine = EchoEngine()
        self._path = path
        self._workers: list[tuple[socket.socket, threading.Thread]] = []
        self._pids = itertools.count()

    async def start_worker(self) -> None:
        """Starts a worker that knows ``letters:1`` and ``moods:1``, and returns when it has loaded them."""
        registry = EchoRegistry(echo_version(self.engine, "letters"), echo_version(self.engine, "moods", weight=-3.0))
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._path)
        hello = Hello(worker=len(self._workers), pid=NO_PID + next(self._pids), device="cpu")
        record = FlightRecord(
            Path(self._path).with_name(f"flight-{hello.pid}"), decode_threads=2, max_batch_rows=MAX_BATCH_ROWS
        )
        worker = Worker(connection, registry, record, decode_threads=2, max_batch_rows=MAX_BATCH_ROWS)
        thread = threading.Thread(target=worker.run, args=(hello,))
        thread.start()
        self._workers.append((connection, thread))
        while (await self.get("/health/ready")).status != 200:
            await asyncio.sleep(0.005)

    def stop_workers(self) -> None:
        """Lets every worker lose its connection."""
        self.engine.gate.set()
        for connection, thread in self._workers:
            connection.shutdown(socket.SHUT_RDWR)
            thread.join(30)
            connection.close()
        self._workers.clear()

    async def request(
        self,
        method: str,
        path: str,
        *chunks: bytes,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        client: Client | None = None,
    ) -> Reply:
        """One request, its body in chunks, straight to the application; its status is 0 where nothing was answered."""
        left = list(chunks)
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> dict[str, Any]:
            body = left.pop(0) if left else b""
            return {"type": "http.request", "body": body, "more_body": bool(left)}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in (headers or {}).items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            CONNECTION: client,
        }
        await self.application(scope, receive, send)
        if not sent:
            return Reply(status=0, headers={}, body=b"")
        start, *rest = sent
        return Reply(
            status=start["status"],
            headers={name.decode().lower(): value.decode() for name, value in start["headers"]},
            body=b"".join(message["body"] for message in rest),
        )

    async def get(self, path: str) -> Reply:
        return await self.request("GET", path)

    async def predict(self, model: str, instances: object, query: str = "", **headers: str) -> Reply:
        path = f"/v1/models/{model}:predict"
        return await self.request("POST", path, json_body(instances), query=query, headers=headers)

    async def metric(self, name: str) -> dict[tuple[str, ...], float]:
        """The values of a metric by those of its labels, in the order of the labels' names."""
        return samples((await self.get("/metrics")).body, name)

    async def outcomes(self) -> dict[tuple[str, ...], float]:
        """How many requests had each outcome that there was, by model, outcome and version."""
        return {labels: count for labels, count in (await self.metric("graftwork_requests_total")).items() if count}

    async def until(self, name: str, *labels: str, value: float) -> None:
        """Waits until a metric has a value."""
        while (await self.metric(name)).get(labels) != value:
            await asyncio.sleep(0.002)


Play = Callable[..., None]


@pytest.fixture
def play(models_on_disk: Path) -> Play:
    """Runs a story on a site of its own: ``play(story, workers=1, **settings)``."""

    def run(story: Callable[[Site], Coroutine[Any, Any, None]], *, workers: int = 1, **settings: Any) -> None:
        async def on_stage() -> None:
            with (
                tempfile.TemporaryDirectory(prefix="gw-test-") as directory,
                socket.socket(socket.AF_UNIX) as listening,
            ):
                path = f"{directory}/workers.sock"
                listening.bind(path)
                listening.listen()
                server_settings = ServerSettings(repository=models_on_disk, **settings)
                application = Application(server_settings, "0", listening, workers=max(1, workers))
                site = Site(application, path)
                async with asyncio.timeout(60), application.running():
                    try:
                        for _ in range(workers):
                            await site.start_worker()
                        await story(site)
                    finally:
                        site.stop_workers()

        asyncio.run(on_stage())

    return run


# A real server process


@dataclass(kw_only=True)
class ServerProcess:
    """``graftwork serve`` as users run it, in a process group and with a TMPDIR of its own."""

    repository: Path
    options: Sequence[str] = ()
    port: int = field(default_factory=lambda: free_port())

    def __post_init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="gw-test-"))  # short: the path of a local socket has 108 bytes
        (self.directory / "tmp").mkdir()
        self.log = self.directory / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command(),
                env={**os.environ, "TMPDIR": str(self.directory / "tmp")},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def command(self) -> Sequence[str]:
        """What is run."""
        serve = [sys.executable, "-m", "graftwork", "serve", "--port", str(self.port), "--device", "cpu"]
        return [*serve, "--repository", str(self.repository), *self.options]

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float = 30.0,
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Reply(
                status=response.status,
                headers={name.lower(): value for name, value in response.getheaders()},
                body=response.read(),
            )
        finally:
            connection.close()

    def predict(self, model: str, instances: object, query: str = "", **headers: str) -> Reply:
        path = f"/v1/models/{model}:predict{query}"
        return self.request("POST", path, json_body(instances), {"content-type": "application/json", **headers})

    def metric(self, name: str) -> dict[tuple[str, ...], float]:
        """The values of a metric by those of its labels, in the order of the labels' names."""
        return samples(self.request("GET", "/metrics").body, name)

    def raw(self, data: bytes, *, timeout: float = 10.0) -> bytes:
        """Sends bytes as they are and reads until the server has nothing more to say."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            connection.sendall(data)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
            return answer

    def status_of(self, path: str) -> int:
        """The status, or 0 where nothing listens."""
        try:
            return self.request("GET", path).status
        except (OSError, http.client.HTTPException):
            return 0

    def wait_until_ready(self, seconds: float = 90.0) -> None:
        wait_for(lambda: self.status_of("/health/ready") == 200 or self.process.poll() is not None, seconds, self.text)
        assert self.process.poll() is None, self.text()

    def text(self) -> str:
        """The log so far, without the requests."""
        return "\n".join(line for line in self.log.read_text().splitlines() if "graftwork.access" not in line)

    def records(self) -> list[dict[str, Any]]:
        """The log so far: every line is a JSON object."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def workers(self) -> list[int]:
        """The pids of the workers, by the command line of a spawned process."""
        return [pid for pid in children(self.process.pid) if b"spawn_main" in command_line(pid)]

    def api(self) -> int:
        """The pid of the API process: a fork, so that its command line is that of its parent."""
        mine = command_line(self.process.pid)
        (pid,) = (pid for pid in children(self.process.pid) if command_line(pid) == mine)
        return pid

    def runtime_files(self) -> list[str]:
        return os.listdir(self.directory / "tmp")

    def survivors(self) -> list[int]:
        """Processes of the server's group that still run."""
        return [pid for pid in running() if process_group(pid) == self.process.pid]

    def destroy(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.directory)


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


@pytest.fixture(scope="session")
def server(models_on_disk: Path) -> Iterator[ServerProcess]:
    """One server of all tiny models, for tests that leave it as it is."""
    process = ServerProcess(repository=models_on_disk)
    try:
        process.wait_until_ready()
        yield process
    finally:
        process.destroy()
