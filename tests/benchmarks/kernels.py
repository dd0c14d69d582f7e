"""What happens to a row in Python and numpy beside the forward pass, in microseconds: ways that were chosen and ways that were not.

python -m tests.benchmarks.kernels
"""

from __future__ import annotations

import queue
import statistics
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table

from models.batch_cost import BatchCost
from models.head import Head, scores_by_head
from service.worker.fair_queue import DEFAULT
from service.worker.scheduler import Scheduler

ROUNDS = 200
FEATURES = 384
ROWS = 32
COST = BatchCost(per_batch=7.0, per_row=1.0, per_token=1.0)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a scheduler is given."""

    number: int
    flow: Hashable
    length: int = 1
    rows: int = 1
    group: str = "group"
    request: Hashable = None
    level: int = DEFAULT
    abandoned: bool = False
    share: float = 0.0
    cost: BatchCost = COST

    @property
    def asker(self) -> Hashable:
        return self.request


def microseconds(ways: Sequence[Callable[[], object]]) -> list[float]:
    """The median of each over rounds in which they take turns."""
    found: list[list[float]] = [[] for _ in ways]
    for turn in range(ROUNDS + 1):
        for way, times in zip(ways, found, strict=True):
            started = time.perf_counter()
            way()
            if turn:  # the first one warms up
                times.append((time.perf_counter() - started) * 1e6)
    return [statistics.median(times) for times in found]


def measure_heads(count: int, classes: int, table: Table) -> None:
    """The logits of 32 rows for so many heads: each head's own product, and ways that first put weights together."""
    random = torch.Generator().manual_seed(0)
    heads = [
        Head(weight_CD=torch.randn(classes, FEATURES, generator=random), bias_C=torch.randn(classes, generator=random))
        for _ in range(count)
    ]
    features_BD = torch.randn(ROWS, FEATURES, generator=random)
    features, head_of = features_BD.numpy(), [row % count for row in range(ROWS)]
    rows_of = [[row for row in range(ROWS) if head_of[row] == index] for index in range(count)]
    weights = [head.weight_CD.numpy() for head in heads]

    def each_in_numpy() -> object:
        return [head.logits(features, rows) for head, rows in zip(heads, rows_of, strict=True)]

    def each_in_torch() -> object:
        return [features_BD[rows] @ head.weight_CD.T + head.bias_C for head, rows in zip(heads, rows_of, strict=True)]

    def all_together() -> object:
        return features @ np.concatenate(weights).T

    def gathered() -> object:
        return np.einsum("bd,bcd->bc", features, np.stack([weights[index] for index in head_of]))

    def whole_kernel() -> object:
        return scores_by_head(features_BD, [heads[index] for index in head_of], [1.0] * ROWS)

    ways = {
        "a product a head, numpy (chosen)": each_in_numpy,
        "a product a head, torch": each_in_torch,
        "weights of all heads together": all_together,
        "weights gathered row by row": gathered,
        "the chosen one, to calibrated scores": whole_kernel,
    }
    for name, value in zip(ways, microseconds(list(ways.values())), strict=True):
        table.add_row(f"{ROWS} rows, {count} x {classes:,} classes", name, f"{value:,.0f}")


def measure_queue(models: int, lengths: Sequence[int], table: Table) -> None:
    """Putting and taking a row, beside a plain queue."""
    rows = [Row(number=n, flow=n % models, length=lengths[n % len(lengths)]) for n in range(256)]

    def scheduled() -> None:
        scheduler: Scheduler[Row] = Scheduler(max_batch_rows=ROWS)
        for row in rows:
            scheduler.put(row)
        taken = 0
        while taken < len(rows):
            batch = scheduler.take()
            scheduler.done(batch)
            taken += len(batch)

    def plain() -> None:
        waiting: queue.SimpleQueue[Row] = queue.SimpleQueue()
        for row in rows:
            waiting.put(row)
        for _ in rows:
            waiting.get()

    what = f"a row's way through the queue, {models} models, {len(lengths)} lengths"
    for name, value in zip(("fair, by cost (chosen)", "a plain queue"), microseconds([scheduled, plain]), strict=True):
        table.add_row(what, name, f"{value / len(rows):.1f}")


def main() -> None:
    """Prints a table."""
    torch.set_num_threads(1)
    table = Table("what", "how", "us", box=box.SIMPLE_HEAD)
    for count, classes in ((32, 4), (1, 4), (16, 1000)):
        measure_heads(count, classes, table)
    for models, lengths in ((1, (1,)), (32, (1,)), (32, tuple(range(8, 72, 2)))):
        measure_queue(models, lengths, table)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
