"""What the first batch of a shape costs, and what is left of that in few shapes: texts a second of mixed batches, on one thread.

    python -m tests.benchmarks.shapes

Every round has batches that no round had before: any number of rows up to 32, sorted by length, as a server forms them. One
engine is asked for them as they are, the other one in the shapes of `models.batch_shape`.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from models.backbone_store import BackboneStore, StoredBackbone
from models.batch import Batch, Row, collate
from models.features import FeatureKind
from models.graph import graph_inputs
from models.graph_cache import GraphCache
from models.openvino_engine import OpenVinoEngine
from models.precision import Precision
from models.preprocessor import build_preprocessor
from models.sources import fetch_checkpoint
from tests.benchmarks.embeddings import mixed_texts
from tests.benchmarks.workload import BACKBONES

ROUNDS, BATCHES, MOST_ROWS = 8, 150, 32


class AsTheyAre(OpenVinoEngine):
    """Every batch in a shape of its own."""

    def _inputs(self, batch: Batch) -> list[NDArray]:
        return [tensor.numpy() for tensor in graph_inputs(batch)]


def batches(rows: Sequence[Row], chance: random.Random) -> list[Batch]:
    """Of rows in order of length, each a run of neighbours."""
    found = []
    for _ in range(BATCHES):
        count = chance.randint(1, MOST_ROWS)
        start = chance.randrange(len(rows) - count)
        found.append(collate(rows[start : start + count]))
    return found


def engine_of(kind: type[OpenVinoEngine], stored: StoredBackbone, cache: Path) -> OpenVinoEngine:
    graph = GraphCache(cache).graph(stored, Precision.INT8, FeatureKind.POOLED)
    engine = kind(graph, stored.config, Precision.INT8, streams=1, threads=1)
    engine.warm_up()
    return engine


def rate(engine: OpenVinoEngine, asked: Sequence[Batch]) -> float:
    begun = time.perf_counter()
    rows = sum(len(engine.features(batch, FeatureKind.POOLED).values) for batch in asked)
    return rows / (time.perf_counter() - begun)


def main() -> None:
    """Prints the table."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = fetch_checkpoint(BACKBONES["texts"])
        stored = BackboneStore(Path(scratch) / "backbones").add(checkpoint)
        preprocessor = build_preprocessor(checkpoint.preprocessor, stored.directory)
        texts = mixed_texts(Path(scratch) / "texts")[:2048]
        rows = sorted(
            (preprocessor.prepare(text, truncate=True) for text in texts),
            key=lambda row: len(row.ids),  # type: ignore[union-attr]
        )
        plain, shaped = (engine_of(kind, stored, Path(scratch) / "cache") for kind in (AsTheyAre, OpenVinoEngine))
        table = Table("batches so far", "as they are", "in few shapes", "times", title="texts/s", box=box.SIMPLE_HEAD)
        chance = random.Random(0)
        for number in range(1, ROUNDS + 1):
            asked = batches(rows, chance)
            first, second = rate(plain, asked), rate(shaped, asked)
            table.add_row(str(number * BATCHES), f"{first:.0f}", f"{second:.0f}", f"{second / first:.2f}")
        Console().print(table)


if __name__ == "__main__":
    main()
