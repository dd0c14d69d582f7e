"""Throughput in process and through the server, side by side in one run.

    python -m tests.benchmarks.serving            # in the precision that is preferred here
    python -m tests.benchmarks.serving fp32

In process means the same payload bytes, decoder, engine, head, threads and order, without HTTP: rows are prepared by as many
threads as there are cores while those before them are computed, as many at a time as there are clients. The server runs
beside it and idles meanwhile; the two take turns, and the medians and the median of the ratios are shown. With one client,
what the server adds to the median latency is shown.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from models.compute_environment import restart_with
from models.options import PrecisionName
from service.cli import WORKER_ENVIRONMENT
from tests.benchmarks.clients import Clients
from tests.benchmarks.report import write
from tests.benchmarks.workload import Workload, image_workload, publish, text_workload
from tests.faults.figure import Figure
from tests.server_process import ServerProcess

if TYPE_CHECKING:
    from models.batch import Row

CONCURRENCIES = (1, 8, 32)
ROUNDS = 5
SECONDS = float(os.environ.get("GRAFTWORK_BENCH_SECONDS", "5"))


class InProcess:
    """The pipeline without HTTP."""

    def __init__(self, repository_dir: Path, workload: Workload, precision: PrecisionName) -> None:
        import torch

        from models.backbone import Modality
        from models.engine_factory import EngineFactory
        from models.options import default_cache_dir
        from models.repository import ModelRepository
        from service.worker.registry import Registry

        cores = len(os.sched_getaffinity(0))
        torch.set_num_threads(cores)
        engines = EngineFactory("cpu", threads=cores, cache_dir=default_cache_dir(os.environ), precision=precision)
        version = Registry(ModelRepository(repository_dir), engines).load(workload.name, 1)
        self._predictor = version.predictor
        self._text = version.manifest.modality is Modality.TEXT
        self._items = workload.items
        self._decoding = ThreadPoolExecutor(cores)
        self._computing = ThreadPoolExecutor(version.streams)
        self.engine = f"{version.serving.engine}, {version.streams} at a time"

    def run(self, concurrency: int, seconds: float) -> tuple[float, list[float]]:
        """Rows a second, with as many rows in hand as there would be clients, and as many being prepared.

        Returns:
            The rate, and for one client the latency of each row in seconds.
        """
        streams = self._predictor.engine.streams
        items, rows = itertools.cycle(self._items), max(1, concurrency // streams)

        def next_batch() -> Future[int]:
            batch = [next(items) for _ in range(rows)]
            prepare = self._predictor.preprocessor.prepare
            prepared = [self._decoding.submit(prepare, item.decode() if self._text else item) for item in batch]
            return self._computing.submit(self._compute, prepared)

        latencies: list[float] = []
        started = time.perf_counter()
        if concurrency == 1:  # a single client asks again once it is answered
            while (now := time.perf_counter()) < started + seconds:
                next_batch().result()
                latencies.append(time.perf_counter() - now)
            return len(latencies) / (now - started), latencies
        done, waiting = 0, deque(next_batch() for _ in range(2 * streams))
        while (elapsed := time.perf_counter() - started) < seconds:
            done += waiting.popleft().result()
            waiting.append(next_batch())
        for future in waiting:
            future.result()
        return done / elapsed, latencies

    def _compute(self, prepared: Sequence[Future[Row]]) -> int:
        import orjson

        from models.features import FeatureKind
        from models.head import best, scores_by_head

        predictor, rows = self._predictor, [future.result() for future in prepared]
        features = predictor.engine.features(predictor.preprocessor.collate(rows), FeatureKind.POOLED)
        heads, temperatures = [predictor.head] * len(rows), [predictor.calibration.temperature] * len(rows)
        for scores_C in scores_by_head(features.values, heads, temperatures):
            (first,) = best(scores_C, 1)
            label, score = predictor.labels[first], float(scores_C[first])
            orjson.dumps({"label": label, "score": score, "scores": {label: score}})
        return len(rows)


def measure(in_process: InProcess, clients: Clients, workload: Workload, table: Table, tail: str) -> list[Figure]:
    """The figures of one workload."""
    figures = []
    for concurrency in CONCURRENCIES:
        in_process.run(concurrency, 1.0)
        clients.run(concurrency, 1.0)
        alone, served = [], []
        for _ in range(ROUNDS):
            alone.append(in_process.run(concurrency, SECONDS))
            served.append(clients.run(concurrency, SECONDS))
        rates = [statistics.median(rate for rate, _ in runs) for runs in (alone, served)]
        ratio = statistics.median(s / a for (a, _), (s, _) in zip(alone, served, strict=True))
        latencies = [latency for _, some in served for latency in some]
        p50, p99 = (statistics.quantiles(latencies, n=100)[k - 1] * 1000 for k in (50, 99))
        kind, name = workload.name, f"{workload.name}{tail}_c{concurrency}"
        figures += [
            Figure(goal="", name=f"in_process_{name}", value=rates[0], unit=workload.unit),
            Figure(goal="", name=f"served_{name}", value=rates[1], unit=workload.unit),
            Figure(goal="", name=f"served_p99_{name}", value=p99, unit="ms"),
        ]
        if concurrency == 1:
            added = statistics.median(
                1000 * (statistics.median(s) - statistics.median(a))
                for (_, a), (_, s) in zip(alone, served, strict=True)
            )
            figures.append(Figure(goal="", name=f"added_latency_ms_{kind}{tail}", value=added, unit="ms"))
        bar = 0.9 if concurrency == CONCURRENCIES[-1] else None
        if bar is not None:
            name = f"served_{kind}_over_in_process{tail}"
            figures.append(Figure(goal="", name=name, value=ratio, unit="ratio", relation=">=", bar=bar))
        row = (kind, str(concurrency), *(f"{rate:.1f}" for rate in rates), f"{ratio:.2f}", f"{p50:.1f}", f"{p99:.1f}")
        table.add_row(*row)
    return figures


def main() -> None:
    """Runs the benchmark and adds its figures to ``build/bench.json``."""
    restart_with(WORKER_ENVIRONMENT)  # the in-process side gets the environment that the server gives to its workers
    precision: PrecisionName = "fp32" if sys.argv[1:] == ["fp32"] else "auto"
    tail = "" if precision == "auto" else f"_{precision}"
    console, figures = Console(), []
    header = ("rows", "clients", "in process /s", "served /s", "served / in process", "p50 ms", "p99 ms")
    table = Table(*header, title=f"Served and in process, precision {precision}", box=box.SIMPLE_HEAD)
    with tempfile.TemporaryDirectory() as scratch:
        for workload in (image_workload(), text_workload(Path(scratch))):
            repository = Path(scratch) / workload.name
            publish(repository, workload)
            in_process = InProcess(repository, workload, precision)
            console.print(f"{workload.name}: {in_process.engine}", style="dim")
            server = ServerProcess(repository=repository, options=["--precision", precision])
            clients = Clients(server.port, workload, [f"/v1/models/{workload.name}:predict?top_k=1"])
            try:
                server.wait_until_ready()
                figures += measure(in_process, clients, workload, table, tail)
            finally:
                clients.close()
                server.destroy()
    if not tail:
        worst = max(figure.value for figure in figures if figure.name.startswith("added_latency_ms"))
        figures.append(Figure(goal="", name="added_latency_ms", value=worst, unit="ms", relation="<=", bar=1.5))
    console.print(table)
    write(figures)


if __name__ == "__main__":
    main()
