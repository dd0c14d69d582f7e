"""Throughput in process and through the server, side by side in one run.

In process means the same payload bytes, decoder, engine, head, threads and order, without HTTP: rows are prepared by as many
threads as there are cores while those before them are computed, as many at a time as there are clients. The server runs beside it and idles meanwhile; the two take turns, and the medians and the median of the ratios are shown.
"""

from __future__ import annotations

import http.client
import io
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from service.cli import WORKER_ENVIRONMENT
from tests.benchmarks.report import write
from tests.faults.figure import Figure
from tests.tiny_models import torch_engine

if TYPE_CHECKING:
    from models.batch import Row

CONCURRENCIES = (1, 8, 32)
ROUNDS = 3
SECONDS = float(os.environ.get("GRAFTWORK_BENCH_SECONDS", "5"))


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One modality: what is sent, and how."""

    name: str
    model: str
    items: Sequence[bytes]
    bodies: Sequence[bytes]
    content_type: str
    unit: str


def photographs() -> list[bytes]:
    """64 JPEG files of 640x480, crops of scikit-learn's two photographs."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    files = []
    for index in range(64):
        pixels_HWC = load_sample_images().images[index % 2]
        image = Image.fromarray(pixels_HWC).crop((index // 2, index // 4, 560 + index // 2, 400 + index // 4))
        buffer = io.BytesIO()
        image.resize((640, 480)).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


def sentences(directory: Path) -> list[bytes]:
    """Sentences of 8 to 60 words from the standard library's docstrings."""
    import csv

    from finetune.samples import write_sample

    with write_sample("docs", directory / "docs").open(newline="", encoding="utf-8") as file:
        return [row["text"].encode() for row in csv.DictReader(file)][:256]


def publish(repository_dir: Path, texts: Sequence[bytes]) -> None:
    """The ImageNet classifier, and a text head of four classes (its values do not matter for speed)."""
    import torch

    from finetune.importing import import_classifier
    from finetune.publishing import Graft
    from finetune.publishing import publish as publish_graft
    from models.head import Head
    from models.repository import ModelRepository
    from models.sources import fetch_checkpoint
    from models.torch_engine import TorchEngine

    repository = ModelRepository(repository_dir)
    import_classifier(repository, "timm:tf_efficientnet_lite0", "images", torch_engine)
    checkpoint = fetch_checkpoint("hf:all-MiniLM-L6-v2")
    stored = repository.backbones.add(checkpoint)
    torch.manual_seed(0)
    graft = Graft(
        name="texts",
        backbone=stored,
        engine=TorchEngine(stored.load()),
        preprocessor=checkpoint.preprocessor,
        head=Head(weight_CD=torch.randn(4, 384), bias_C=torch.zeros(4)),
        labels=["a", "b", "c", "d"],
        temperature=1.0,
        golden_items=[texts[0].decode()],
    )
    publish_graft(repository, graft)


class InProcess:
    """The pipeline without HTTP."""

    def __init__(self, repository_dir: Path, workload: Workload) -> None:
        import torch

        from models.backbone import Modality
        from models.engine_choice import EngineFactory
        from models.options import default_cache_dir
        from models.repository import ModelRepository
        from service.worker.registry import Registry

        cores = len(os.sched_getaffinity(0))
        torch.set_num_threads(cores)
        engines = EngineFactory("cpu", threads=cores, cache_dir=default_cache_dir(os.environ))
        version = Registry(ModelRepository(repository_dir), engines.build).load(workload.model, 1)
        self._predictor = version.predictor
        self._text = version.manifest.modality is Modality.TEXT
        self._items = workload.items
        self._decoding = ThreadPoolExecutor(cores)
        self._computing = ThreadPoolExecutor(version.streams)
        self.engine = f"{version.predictor.engine.identity}, {version.streams} at a time"

    def run(self, concurrency: int, seconds: float) -> float:
        """Rows a second, with as many rows in hand as there would be clients, and as many being prepared."""
        streams = self._predictor.engine.streams
        items, rows = itertools.cycle(self._items), max(1, concurrency // streams)

        def next_batch() -> Future[int]:
            batch = [next(items) for _ in range(rows)]
            prepare = self._predictor.preprocessor.prepare
            prepared = [self._decoding.submit(prepare, item.decode() if self._text else item) for item in batch]
            return self._computing.submit(self._compute, prepared)

        done, started = 0, time.perf_counter()
        ahead = 2 * streams if concurrency > 1 else 1  # a single client asks again once it is answered
        waiting = deque(next_batch() for _ in range(ahead))
        while (elapsed := time.perf_counter() - started) < seconds:
            done += waiting.popleft().result()
            waiting.append(next_batch())
        for future in waiting:
            future.result()
        return done / elapsed

    def _compute(self, prepared: Sequence[Future[Row]]) -> int:
        import orjson

        from models.features import FeatureKind
        from models.head import best, scores_by_head

        predictor, rows = self._predictor, [future.result() for future in prepared]
        features = predictor.engine.features(predictor.preprocessor.collate(rows), FeatureKind.POOLED)
        count = len(rows)
        for scores_C in scores_by_head(features.values, [predictor.head] * count, [predictor.temperature] * count):
            (label,) = best(scores_C, 1)
            orjson.dumps({"label": predictor.labels[label], "score": float(scores_C[label])})
        return len(rows)


class Clients:
    """Closed-loop clients on keep-alive connections: each sends its next request when the last one is answered.

    Args:
        models: asked in turn; the workload's own without.
    """

    def __init__(self, port: int, workload: Workload, models: Sequence[str] = ()) -> None:
        self._port = port
        self._workload = workload
        self._paths = [f"/v1/models/{model}:predict?top_k=1" for model in models or [workload.model]]

    def run(self, concurrency: int, seconds: float) -> tuple[float, list[float]]:
        """Rows a second, and every request's latency in seconds."""
        deadline = time.perf_counter() + seconds
        latencies: list[list[float]] = [[] for _ in range(concurrency)]
        threads = [threading.Thread(target=self._client, args=(i, deadline, latencies[i])) for i in range(concurrency)]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        every = [latency for one in latencies for latency in one]
        return len(every) / (time.perf_counter() - started), every

    def _client(self, index: int, deadline: float, latencies: list[float]) -> None:
        workload = self._workload
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        for number in itertools.count(index * 7):
            started = time.perf_counter()
            if started > deadline:
                break
            body = workload.bodies[number % len(workload.bodies)]
            path = self._paths[number % len(self._paths)]
            connection.request("POST", path, body, {"Content-Type": workload.content_type})
            response = connection.getresponse()
            answer = response.read()
            if response.status != 200:
                raise RuntimeError(f"{response.status}: {answer[:200]!r}")
            latencies.append(time.perf_counter() - started)
        connection.close()


@contextmanager
def server(repository_dir: Path, port: int) -> Iterator[None]:
    """A server process, ready."""
    command = [sys.executable, "-m", "graftwork", "serve", "--repository", str(repository_dir), "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        while True:
            if process.poll() is not None:
                raise RuntimeError("the server ended")
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", "/health/ready")
                if connection.getresponse().status == 200:
                    break
            except OSError:
                pass
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(60)


def measure(repository_dir: Path, workloads: Sequence[Workload], port: int) -> list[Figure]:
    """All figures, and a table of them on the way."""
    console = Console()
    figures = []
    table = Table(
        "rows", "clients", "in process /s", "served /s", "served / in process", "p50 ms", "p99 ms", box=box.SIMPLE_HEAD
    )
    for workload in workloads:
        in_process, clients = InProcess(repository_dir, workload), Clients(port, workload)
        console.print(f"{workload.name}: {in_process.engine}", style="dim")
        for concurrency in CONCURRENCIES:
            in_process.run(concurrency, 1.0)
            clients.run(concurrency, 1.0)
            pairs, latencies = [], []
            for _ in range(ROUNDS):
                alone = in_process.run(concurrency, SECONDS)
                served, some = clients.run(concurrency, SECONDS)
                pairs.append((alone, served))
                latencies += some
            alone = statistics.median(a for a, _ in pairs)
            served = statistics.median(s for _, s in pairs)
            ratio = statistics.median(s / a for a, s in pairs)
            p50, p99 = (statistics.quantiles(latencies, n=100)[k - 1] * 1000 for k in (50, 99))
            table.add_row(
                workload.name,
                str(concurrency),
                f"{alone:.1f}",
                f"{served:.1f}",
                f"{ratio:.2f}",
                f"{p50:.1f}",
                f"{p99:.1f}",
            )
            tail = f"{workload.name}_c{concurrency}"
            figures += [
                Figure(goal="", name=f"in_process_{tail}", value=alone, unit=workload.unit),
                Figure(goal="", name=f"served_{tail}", value=served, unit=workload.unit),
                Figure(goal="", name=f"served_over_in_process_{tail}", value=ratio, unit="ratio"),
            ]
            console.print(f"{workload.name}, {concurrency} clients: {alone:.1f} and {served:.1f} /s", style="dim")
    console.print(table)
    return figures


def main() -> None:
    """Runs the benchmark and adds its figures to ``build/bench.json``."""
    if any(os.environ.get(name) != value for name, value in WORKER_ENVIRONMENT.items()):
        # The in-process side gets the environment that the server gives to its workers.
        os.execve(
            sys.executable, [sys.executable, "-m", "tests.benchmarks.serving"], {**os.environ, **WORKER_ENVIRONMENT}
        )
    from service.demo import free_port

    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        photos, texts = photographs(), sentences(directory)
        workloads = [
            Workload(
                name="images",
                model="images",
                items=photos,
                bodies=photos,
                content_type="image/jpeg",
                unit="images/s",
            ),
            Workload(
                name="texts",
                model="texts",
                items=texts,
                bodies=[json.dumps({"instances": [text.decode()]}).encode() for text in texts],
                content_type="application/json",
                unit="texts/s",
            ),
        ]
        publish(directory / "repository", texts)
        port = free_port()
        with server(directory / "repository", port):
            figures = measure(directory / "repository", workloads, port)
    write(figures)


if __name__ == "__main__":
    main()
