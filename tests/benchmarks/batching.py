"""Texts of mixed lengths, in process: batches by what they cost, beside batches of those whose lengths are about the same.

    python -m tests.benchmarks.batching

The backbone is MiniLM on the engine that serves it here. So many rows are in hand at any time: whenever one is computed, the next
one arrives. Two mixes: sentences of 4 to 60 words, and lengths with a heavy tail, up to 256 tokens. Both ways take turns.
"""

from __future__ import annotations

import itertools
import os
import random
import statistics
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rich import box
from rich.console import Console
from rich.table import Table

from models.batch import Row, TextRow, collate
from models.batch_cost import BatchCost
from models.engine import Engine
from models.features import FeatureKind
from service.worker.fair_queue import DEFAULT
from service.worker.scheduler import Scheduler
from tests.benchmarks.report import write
from tests.faults.figure import Figure

IN_HAND = (8, 32, 128)
ROUNDS = 7
SECONDS = float(os.environ.get("GRAFTWORK_BENCH_SECONDS", "2"))
MOST_ROWS = 32
BUCKET = 16  # tokens


@dataclass(frozen=True, kw_only=True, eq=False)
class Text:
    """A row that waits; a `service.worker.scheduler.Waiting`."""

    row: TextRow
    cost: BatchCost
    share: float
    rows: int = 1
    group: str = "texts"
    flow: str = "model"
    level: int = DEFAULT
    abandoned: bool = False
    arrived: float = field(default_factory=time.perf_counter)

    @property
    def length(self) -> int:
        return len(self.row.ids)

    @property
    def request(self) -> Text:
        return self


class Batching(Protocol):
    """A way to make batches."""

    def put(self, row: Text) -> None: ...

    def take(self) -> Sequence[Text]: ...

    def done(self, batch: Sequence[Text]) -> None: ...

    def close(self) -> None: ...


class Buckets:
    """Rows whose lengths round up to the same multiple of 16 share a batch; the oldest row of all is in the next one."""

    def __init__(self) -> None:
        self._buckets: dict[int, deque[tuple[int, Text]]] = {}
        self._arrivals = itertools.count()
        self._idle = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, row: Text) -> None:
        with self._changed:
            self._buckets.setdefault(-(-row.length // BUCKET), deque()).append((next(self._arrivals), row))
            if self._idle:
                self._changed.notify()

    def take(self) -> Sequence[Text]:
        with self._changed:
            while not self._closed:
                if self._buckets:
                    bucket = min(self._buckets, key=lambda each: self._buckets[each][0][0])
                    rows = self._buckets[bucket]
                    most = min(MOST_ROWS, -(-len(rows) // (1 + self._idle)))
                    batch = [rows.popleft()[1] for _ in range(most)]
                    if not rows:
                        del self._buckets[bucket]
                    return batch
                self._idle += 1
                self._changed.wait()
                self._idle -= 1
            return []

    def done(self, batch: Sequence[Text]) -> None:
        pass

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Of one round.

    Attributes:
        rate: rows a second.
        cpu_seconds: of this process, a row: what else the machine does changes it less than it changes the rate.
        latencies: every row's time in seconds from its arrival to its features.
    """

    rate: float
    cpu_seconds: float
    latencies: Sequence[float]
    batches: int


def run(batching: Batching, engine: Engine, rows: Iterator[TextRow], in_hand: int, seconds: float) -> Pace:
    """Keeps so many rows in hand."""
    latencies: list[float] = []
    batches = itertools.count()
    lock = threading.Lock()
    until = time.perf_counter() + seconds

    def put(count: int) -> None:
        for _ in range(count):
            with lock:
                row = next(rows)
            batching.put(Text(row=row, cost=engine.cost, share=1 / engine.streams))

    def serve(_: int) -> None:
        while batch := batching.take():
            engine.features(collate([text.row for text in batch]), FeatureKind.POOLED)
            batching.done(batch)
            now = time.perf_counter()
            if now > until:
                batching.close()
                return
            latencies.extend(now - text.arrived for text in batch)
            next(batches)
            put(len(batch))

    put(in_hand)
    started, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(engine.streams) as pool:
        list(pool.map(serve, range(engine.streams)))
    return Pace(
        rate=len(latencies) / (time.perf_counter() - started),
        cpu_seconds=(time.process_time() - cpu) / len(latencies),
        latencies=latencies,
        batches=next(batches),
    )


def heavy_tail(rows: Sequence[Row]) -> Sequence[TextRow]:
    """Texts of up to 256 tokens, half of them under 20."""
    chance = random.Random(0)
    tokens = [token for row in rows if isinstance(row, TextRow) for token in row.ids]
    lengths = [min(256, 4 + int(chance.lognormvariate(2.7, 1.0))) for _ in range(512)]
    return [TextRow(ids=tokens[length : 2 * length], segments=[0] * length) for length in lengths]


def measure() -> list[Figure]:
    """All figures, and a table of them on the way."""
    import torch

    from models.backbone_store import BackboneStore
    from models.engine_factory import EngineFactory
    from models.options import default_cache_dir
    from models.sample_batches import sample_rows
    from models.sources import fetch_checkpoint

    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    with tempfile.TemporaryDirectory() as scratch:
        stored = BackboneStore(Path(scratch)).add(fetch_checkpoint("hf:all-MiniLM-L6-v2"))
        engine = EngineFactory("cpu", threads=cores, cache_dir=default_cache_dir(os.environ)).build(stored)
        sentences = [row for row in sample_rows(stored, 256) if isinstance(row, TextRow)]
    mixes = {"sentences": sentences, "heavy tail": heavy_tail(sentences)}
    console = Console()
    worth = {length: engine.cost.rows_worth(length, MOST_ROWS) for length in (8, 16, 32, 64, 128, 256)}
    console.print(f"{engine.identity}, {engine.streams} at a time; rows worth a batch, by tokens: {worth}", style="dim")
    table = Table(
        *(
            "texts",
            "in hand",
            "buckets /s",
            "by cost /s",
            "ratio",
            "of CPU",
            "p50 ms",
            "by cost",
            "p99 ms",
            "by cost",
            "rows a batch",
        ),
        box=box.SIMPLE_HEAD,
    )
    figures = []
    for mix, in_hand in itertools.product(mixes, IN_HAND):
        rows = itertools.cycle(mixes[mix])
        paces: dict[str, list[Pace]] = {"buckets": [], "cost": []}
        for _ in range(ROUNDS):
            for name in paces:
                batching: Batching = Buckets() if name == "buckets" else Scheduler(max_batch_rows=MOST_ROWS)
                paces[name].append(run(batching, engine, rows, in_hand, SECONDS))
        old, new = paces["buckets"], paces["cost"]
        ratio = statistics.median(b.rate / a.rate for a, b in zip(old, new, strict=True))
        cells = [f"{statistics.median(pace.rate for pace in each):.0f}" for each in (old, new)] + [f"{ratio:.2f}"]
        of_cpu = statistics.median(b.cpu_seconds / a.cpu_seconds for a, b in zip(old, new, strict=True))
        cells.append(f"{of_cpu:.2f}")
        for k in (50, 99):
            for each in (old, new):
                every = [latency for pace in each for latency in pace.latencies]
                cells.append(f"{statistics.quantiles(every, n=100)[k - 1] * 1000:.0f}")
        sizes = [sum(len(p.latencies) for p in each) / max(1, sum(p.batches for p in each)) for each in (old, new)]
        table.add_row(mix, str(in_hand), *cells, " -> ".join(f"{size:.1f}" for size in sizes))
        console.print(f"{mix}, {in_hand} in hand: {ratio:.2f}, CPU {of_cpu:.2f}", style="dim")
        name = f"texts_by_cost_over_buckets_{mix.replace(' ', '_')}_{in_hand}"
        figures.append(Figure(goal="", name=name, value=ratio, unit="ratio"))
    console.print(table)
    return figures


def main() -> None:
    """Runs the benchmark and adds its figures to ``build/bench.json``."""
    write(measure())


if __name__ == "__main__":
    main()
