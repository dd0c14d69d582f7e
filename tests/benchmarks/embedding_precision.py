"""What embeddings lose in 8-bit integers: all-MiniLM-L6-v2 on public sets, in int8 beside fp32.

    python -m tests.benchmarks.embedding_precision folder-with-the-sets

Of the test split of STS-B, how well the cosine of two sentences agrees with what people say; of that of Banking77, how often the nearest
other text has the same label: with all vectors in one precision, and with queries in int8 against an index in fp32.
"""

from __future__ import annotations

import csv
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from models.backbone_store import BackboneStore
from models.engine import Engine
from models.engine_factory import EngineFactory
from models.features import FeatureKind
from models.options import default_cache_dir
from models.precision import Precision
from models.preprocessor import Preprocessor, build_preprocessor
from models.sources import fetch_checkpoint
from tests.benchmarks.workload import BACKBONES

BATCH_ROWS = 32


def embed(engine: Engine, preprocessor: Preprocessor, texts: Sequence[str]) -> NDArray[np.float32]:
    """Their vectors (N, D), of length 1."""
    rows = [preprocessor.prepare(text, truncate=True) for text in texts]
    found = [
        engine.features(preprocessor.collate(rows[start : start + BATCH_ROWS]), FeatureKind.POOLED).values
        for start in range(0, len(rows), BATCH_ROWS)
    ]
    vectors_ND: NDArray[np.float32] = torch.cat(found).numpy()
    return vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)


def column(file: Path, *names: str) -> list[list[str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    return [[row[name] for row in rows] for name in names]


def agreement(first_ND: NDArray[np.float32], second_ND: NDArray[np.float32], scores: Sequence[str]) -> float:
    """Spearman's correlation of cosines with what people say."""
    return float(spearmanr((first_ND * second_ND).sum(axis=1), np.array(scores, float)).statistic)


def same_label(queries_ND: NDArray[np.float32], index_ND: NDArray[np.float32], labels: Sequence[str]) -> float:
    """How often the nearest text of the index, but for the query's own, has its label."""
    cosines_NN = queries_ND @ index_ND.T
    np.fill_diagonal(cosines_NN, -np.inf)
    names_N = np.array(labels)
    return float((names_N[cosines_NN.argmax(axis=1)] == names_N).mean())


def main() -> None:
    """Prints the table."""
    data, threads = Path(sys.argv[1]), len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    first, second, scores = column(data / "stsb_en" / "test.csv", "text_a", "text_b", "score")
    questions, labels = column(data / "banking77" / "test.csv", "text", "label")
    found: dict[Precision, tuple[NDArray[np.float32], ...]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = fetch_checkpoint(BACKBONES["texts"])
        stored = BackboneStore(Path(scratch)).add(checkpoint)
        preprocessor = build_preprocessor(checkpoint.preprocessor, stored.directory)
        cache = default_cache_dir(os.environ)
        engines = EngineFactory("cpu", threads=threads, cache_dir=cache, wanted="openvino", precision="auto")
        for precision in (Precision.FP32, Precision.INT8):
            engine = engines.build(stored, precision)
            found[precision] = tuple(embed(engine, preprocessor, texts) for texts in (first, second, questions))
    exact = found[Precision.FP32]
    table = Table(
        *("precision", "STS-B, Spearman", "Banking77, same label", "the same, index in fp32", "cosine to fp32: mean"),
        *("1 % are below", "lowest"),
        box=box.SIMPLE_HEAD,
    )
    for precision, (first_ND, second_ND, questions_ND) in found.items():
        cosines_N = np.concatenate(
            [(ours * theirs).sum(axis=1) for ours, theirs in zip(found[precision], exact, strict=True)]
        )
        table.add_row(
            precision,
            f"{agreement(first_ND, second_ND, scores):.4f}",
            f"{same_label(questions_ND, questions_ND, labels):.4f}",
            f"{same_label(questions_ND, exact[2], labels):.4f}",
            *(f"{value:.4f}" for value in (cosines_N.mean(), np.percentile(cosines_N, 1), cosines_N.min())),
        )
    Console(width=max(Console().width, 130)).print(table)


if __name__ == "__main__":
    main()
